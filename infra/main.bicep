// Everything that the function app needs, in a resource group of its own.
targetScope = 'subscription'

@description('The name of this environment in azd; part of the resource group\'s name.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('A region that has Flex Consumption and Azure Managed Redis.')
param location string

@description('Object id of a person or group who may read and change the table; azd passes whoever deploys. Empty: nobody.')
param principalId string = ''

@description('Replication of the storage account. Not every region with Flex Consumption has zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageSku string = 'Standard_LRS'

@description('Spreads the instances of the app over zones. Needs a storageSku of Standard_ZRS or Standard_GZRS.')
param zoneRedundant bool = false

@description('Puts the app into a virtual network, and closes storage and Redis to everything outside of it.')
param virtualNetwork bool = false

@description('Where to send the alert when /api/health fails. Empty: it only shows in the portal.')
param alertEmail string = ''

@description('The URL of a receiver of OTLP by HTTP, for spans and metrics. Empty: none are exported.')
param otlpEndpoint string = ''

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
    principalId: principalId
    storageSku: storageSku
    zoneRedundant: zoneRedundant
    virtualNetwork: virtualNetwork
    alertEmail: alertEmail
    otlpEndpoint: otlpEndpoint
  }
}

output AZURE_LOCATION string = location
output AZURE_RESOURCE_GROUP string = group.name
output SERVICE_API_NAME string = app.outputs.functionAppName
output SERVICE_API_URI string = app.outputs.uri
// What kustomize/overlays/azure needs.
output IDENTITY_NAME string = app.outputs.identityName
output IDENTITY_CLIENT_ID string = app.outputs.identityClientId
output TABLE_SERVICE_URI string = app.outputs.tableServiceUri
output REDIS_URL string = app.outputs.redisUrl
