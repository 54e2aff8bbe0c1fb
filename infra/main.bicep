// Everything that the function app needs, in a resource group of its own.
targetScope = 'subscription'

@description('What azd calls this environment; part of every name.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('A region that has Flex Consumption and Azure Managed Redis.')
param location string

var tags = {
  'azd-env-name': environmentName
}

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module app 'app.bicep' = {
  name: 'app'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: toLower(uniqueString(subscription().id, environmentName, location))
  }
}

output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP_NAME string = app.outputs.functionAppName
output API_URI string = app.outputs.uri
