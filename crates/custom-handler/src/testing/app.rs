//! The function app's files: `host.json`, `local.settings.json`, and each function's `function.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::Mode;

/// A function, as its `function.json` describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FunctionFolder {
    /// The name of the folder.
    pub name: String,
    /// The route without the route prefix.
    pub route: String,
    /// The methods, in capitals.
    pub methods: Vec<String>,
    /// The binding of type `httpTrigger`; null if there is none.
    pub trigger: Value,
    /// The binding of type `http`; null if there is none.
    pub output: Value,
}

/// The files of a function app.
#[derive(Debug)]
#[non_exhaustive]
pub struct FunctionApp {
    /// Its folder.
    pub root: PathBuf,
    /// `host.json`.
    pub host: Value,
    /// The functions, sorted by name.
    pub functions: Vec<FunctionFolder>,
}

impl FunctionApp {
    /// Reads `host.json`, and the `function.json` of each folder that has one.
    ///
    /// # Panics
    /// If `host.json` is missing, or one of the files is invalid.
    pub fn read(root: &Path) -> Self {
        let host = read_json(&root.join("host.json"));
        let mut functions: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| folder.join("function.json").is_file())
            .map(|folder| FunctionFolder::read(&folder))
            .collect();
        functions.sort_by(|one, other| one.name.cmp(&other.name));
        Self { root: root.to_owned(), host, functions }
    }

    /// The app settings in `local.settings.json`, which Core Tools passes to the host as environment:
    /// <https://learn.microsoft.com/azure/azure-functions/functions-develop-local#local-settings-file>.
    ///
    /// # Panics
    /// If the file is missing or invalid.
    pub fn local_settings(&self) -> BTreeMap<String, String> {
        let values = read_json(&self.root.join("local.settings.json"))["Values"].clone();
        serde_json::from_value(values).unwrap()
    }

    /// Overrides settings of `host.json` with app settings named
    /// `AzureFunctionsJobHost__path__to__setting`.
    ///
    /// The host reads both into one configuration, where keys do not depend on case and `__`
    /// separates sections: `host.json` by
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Config/HostJsonFileConfigurationSource.cs>,
    /// the environment after it.
    pub fn override_host(&mut self, settings: &BTreeMap<String, String>) {
        for (name, value) in settings {
            let Some(path) = name.strip_prefix("AzureFunctionsJobHost__") else { continue };
            let mut place = &mut self.host;
            for step in path.split("__") {
                let known = place.as_object().and_then(|object| {
                    object.keys().find(|key| key.eq_ignore_ascii_case(step)).cloned()
                });
                place = &mut place[known.unwrap_or_else(|| step.to_owned())];
            }
            *place = value.parse::<bool>().map_or_else(|_| json!(value), Value::Bool);
        }
    }

    /// The path of the handler's executable. A relative one is relative to the root:
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/Configuration/HttpWorkerOptionsSetup.cs>.
    pub(super) fn executable(&self) -> PathBuf {
        let path = self.host["customHandler"]["description"]["defaultExecutablePath"].as_str();
        self.root.join(path.expect("customHandler.description.defaultExecutablePath in host.json"))
    }

    /// The handler's command line arguments, `customHandler.description.arguments`, from the same
    /// file.
    pub(super) fn arguments(&self) -> Vec<&str> {
        let arguments = self.host["customHandler"]["description"]["arguments"].as_array();
        arguments.into_iter().flatten().map(|it| it.as_str().expect("a text")).collect()
    }

    /// Proxying is used if it is enabled, else forwarding if that is enabled, else payloads:
    /// `InvokeAsync` in
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs>.
    pub(super) fn mode(&self) -> Mode {
        let handler = &self.host["customHandler"];
        match (&handler["enableProxyingHttpRequest"], &handler["enableForwardingHttpRequest"]) {
            (Value::Bool(true), _) => Mode::Proxy,
            (_, Value::Bool(true)) => Mode::Forward,
            _ => Mode::Payload,
        }
    }

    /// `functionTimeout`, by default 30 minutes (5 on the Consumption plan):
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Config/ScriptJobHostOptionsSetup.cs>.
    pub(super) fn function_timeout(&self) -> Duration {
        let text = self.host["functionTimeout"].as_str().unwrap_or("00:30:00");
        let parts = text.split(':').map(|part| part.parse::<u64>().unwrap());
        Duration::from_secs(parts.fold(0, |total, part| total * 60 + part))
    }

    /// The function that a request is for, with the values of its route's parameters.
    ///
    /// The path is the route prefix, by default `api`, and the function's route:
    /// <https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script.WebHost/WebScriptHostHttpRoutesManager.cs>.
    /// Case and a slash at the end do not matter; segments match after percent-decoding: measured.
    pub(super) fn route(
        &self,
        method: &Method,
        path: &str,
    ) -> Option<(&FunctionFolder, BTreeMap<String, String>)> {
        let prefix = self.host["extensions"]["http"]["routePrefix"].as_str().unwrap_or("api");
        let decode = |segment: &str| {
            percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
        };
        let segments: Vec<_> = path.trim_matches('/').split('/').map(decode).collect();
        self.functions.iter().find_map(|function| {
            let route = format!("{prefix}/{}", function.route);
            let expected: Vec<_> = route.split('/').collect();
            if expected.len() != segments.len()
                || !function.methods.iter().any(|it| it == method.as_str())
            {
                return None;
            }
            let mut params = BTreeMap::new();
            for (expected, segment) in expected.iter().zip(&segments) {
                match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => {
                        params.insert(name.to_owned(), segment.clone());
                    }
                    None if expected.eq_ignore_ascii_case(segment) => {}
                    None => return None,
                }
            }
            Some((function, params))
        })
    }
}

impl FunctionFolder {
    /// The route is by default the function's name, from the same file as [`FunctionApp::route`].
    fn read(folder: &Path) -> Self {
        let bindings = read_json(&folder.join("function.json"))["bindings"].clone();
        let binding = |kind: &str| {
            let mut all = bindings.as_array().unwrap().iter();
            all.find(|binding| binding["type"] == kind).cloned().unwrap_or_default()
        };
        let (trigger, output) = (binding("httpTrigger"), binding("http"));
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let methods = trigger["methods"].as_array().cloned().unwrap_or_default();
        Self {
            route: trigger["route"].as_str().unwrap_or(&name).to_owned(),
            methods: methods.iter().map(|it| it.as_str().unwrap().to_uppercase()).collect(),
            name,
            trigger,
            output,
        }
    }
}

/// Reads a JSON file.
///
/// # Panics
/// If the file is missing or is not JSON.
pub fn read_json(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
