//! What editors read: `users.http`, `.vscode` and `.devcontainer`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cache_aside_handler::api::ENDPOINTS;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::support::handler::Handler;
use crate::support::host::{FunctionApp, repository};
use crate::support::{Answer, Client, settings, start};

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|_| panic!("{path} is missing"))
}

fn read_json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A `.http` file in the syntax of the extension REST Client, as far as `users.http` uses it.
struct HttpFile {
    /// Variables by name, and headers of responses by `NAME.response.headers.HEADER`, in lower case.
    values: BTreeMap<String, String>,
}

impl HttpFile {
    /// Replaces `{{name}}`.
    fn substitute(&self, text: &str) -> String {
        let reference = Regex::new(r"\{\{(.+?)\}\}").unwrap();
        let value = |found: &Captures| {
            let name = found[1].to_lowercase();
            self.values.get(&name).unwrap_or_else(|| panic!("{name} has no value")).clone()
        };
        reference.replace_all(text, value).into_owned()
    }

    /// Sends one request, and returns its method, its path and the response.
    async fn send(&mut self, client: &Client, text: &str) -> (String, String, Answer) {
        let is_comment = |line: &&str| line.starts_with('#');
        let name = text.lines().find_map(|line| line.strip_prefix("# @name "));
        let lines: Vec<&str> = text.lines().skip(1).filter(|line| !is_comment(line)).collect();
        let text = self.substitute(lines.join("\n").trim());
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut head = head.lines();
        let (method, url) = head.next().unwrap().split_once(' ').expect("METHOD URL");
        let path = url.strip_prefix(&client.base).expect("a URL of this host");
        let mut request = client.request(method.parse().unwrap(), path);
        for header in head {
            let (name, value) = header.split_once(": ").expect("NAME: value");
            request = request.header(name, value);
        }
        let answer = client.send(request.body(body.to_owned())).await;
        if let Some(name) = name {
            for (header, value) in &answer.headers {
                let key = format!("{name}.response.headers.{header}");
                self.values.insert(key, value.to_str().unwrap().to_owned());
            }
        }
        (method.to_owned(), path.to_owned(), answer)
    }
}

/// Sent from top to bottom, all of them succeed, and each endpoint is called.
#[tokio::test]
async fn users_http_calls_each_endpoint() {
    let client = start(&settings(&[])).await;
    let text = read("users.http");
    let mut requests = text.split("\n###");
    let variables = requests.next().unwrap().lines().filter_map(|line| line.strip_prefix('@'));
    let values = variables.map(|line| line.split_once(" = ").expect("@NAME = value"));
    let mut file = HttpFile {
        values: values.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    assert_eq!(file.values["host"], "http://localhost:7071", "the port of make run and make up");
    file.values.insert("host".to_owned(), client.base.clone());

    let mut statuses = Vec::new();
    let mut called = BTreeSet::new();
    for request in requests {
        let (method, path, answer) = file.send(&client, request).await;
        let function = ENDPOINTS.iter().map(|endpoint| &endpoint.function).find(|function| {
            function.params(&path).is_some()
                && function.methods.iter().any(|allowed| allowed.as_str() == method)
        });
        called.insert(function.unwrap_or_else(|| panic!("{method} {path} is no call")).name);
        statuses.push(answer.status);
    }
    let expected = [201, 200, 200, 304, 200, 200, 200, 204, 201, 204, 200, 200, 200, 200];
    assert_eq!(statuses, expected);
    let all: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.function.name).collect();
    assert_eq!(called, all);
}

#[test]
fn every_json_file_can_be_parsed() {
    let listed = Command::new("git")
        .args(["ls-files", "*.json"])
        .current_dir(repository())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().count() > 10);
    listed.lines().for_each(|path| drop(read_json(path)));
}

fn tasks() -> BTreeMap<String, Value> {
    let tasks = read_json(".vscode/tasks.json");
    let tasks = tasks["tasks"].as_array().unwrap().iter();
    tasks.map(|task| (task["label"].as_str().unwrap().to_owned(), task.clone())).collect()
}

#[test]
fn the_editors_tasks_exist() {
    let tasks = tasks();
    let mut needed =
        vec![read_json(".vscode/settings.json")["azureFunctions.preDeployTask"].clone()];
    for configuration in read_json(".vscode/launch.json")["configurations"].as_array().unwrap() {
        needed.extend([
            configuration["preLaunchTask"].clone(),
            configuration["postDebugTask"].clone(),
        ]);
    }
    for name in needed {
        assert!(tasks.contains_key(name.as_str().unwrap()), "there is no task {name}");
    }
    let makefile = read("Makefile");
    for task in tasks.values() {
        let command: Vec<_> = task["command"].as_str().unwrap().split(' ').collect();
        match command[..] {
            ["make", target] => assert!(makefile.contains(&format!("\n{target}: ")), "{target}"),
            [script, ..] if script.starts_with("scripts/") => {
                assert!(repository().join(script).exists(), "{script}");
            }
            ["cargo", "build"] | ["echo", "${input:terminate}"] => {}
            _ => panic!("what is {command:?}?"),
        }
    }
}

/// The debugger starts what `func start` would start, with the same settings.
#[test]
fn the_editors_debugger_has_the_local_settings() {
    let app = FunctionApp::read(repository());
    let local = app.local_settings();
    let executable = "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath";
    let launch = read_json(".vscode/launch.json");
    let configurations = launch["configurations"].as_array().unwrap();
    for configuration in configurations {
        let program = configuration["program"].as_str().unwrap();
        assert_eq!(program.strip_prefix("${workspaceFolder}/"), Some(&*local[executable]));
    }
    let direct = configurations.iter().find(|it| it["request"] == "launch").unwrap();
    let given: BTreeMap<_, _> = direct["env"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let of_host = |name: &str| name.starts_with("AzureWebJobs") || name.starts_with("FUNCTIONS_");
    let expected: BTreeMap<_, _> = local
        .iter()
        .filter(|(name, _)| !of_host(name) && *name != executable)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert_eq!(given, expected);
}

/// By which line the editor knows that what this task starts is ready.
pub fn ends(task: &str) -> Regex {
    let background = &tasks()[task]["problemMatcher"]["background"];
    Regex::new(background["endsPattern"].as_str().unwrap()).unwrap()
}

/// Then the debugger attaches to it.
#[tokio::test]
async fn the_editor_recognizes_that_the_handler_has_started() {
    let ends = ends("up");
    let handler = Handler::start(&[]).await;
    assert!(ends.is_match(&handler.line_with("handler 0").await));
    assert!(ends.is_match("make up: cargo build has failed, see above."));
    assert!(!ends.is_match("redis: started on port 6379, its log is target/up/redis.log."));
}

#[test]
fn the_dev_container_has_what_the_project_needs() {
    let container = read_json(".devcontainer/devcontainer.json");
    let extensions = &container["customizations"]["vscode"]["extensions"];
    assert_eq!(*extensions, read_json(".vscode/extensions.json")["recommendations"]);
    // The ports of up.sh.
    let script = read("scripts/up.sh");
    let ports = container["forwardPorts"].as_array().unwrap();
    let default = Regex::new(r"\$\{UP_[A-Z_]*PORT:-([0-9]+)\}").unwrap();
    let used: BTreeSet<_> = default.captures_iter(&script).map(|port| port[1].to_owned()).collect();
    assert_eq!(ports.iter().map(Value::to_string).collect::<BTreeSet<_>>(), used);
    // The versions of the image and of compose.yaml.
    let version = |file: &str, before: &str| {
        let text = read(file);
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{file} has no {before}"));
        rest.split(['-', '\n', ' ']).next().unwrap().to_owned()
    };
    let dockerfile = ".devcontainer/Dockerfile";
    assert_eq!(version(dockerfile, "FROM rust:"), version("Dockerfile", "FROM rust:"));
    assert_eq!(version(dockerfile, " azurite@"), version("compose.yaml", "/azurite:"));
}
