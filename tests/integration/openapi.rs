//! The OpenAPI document agrees with the handler: its calls, its rules and its examples, and, as far as
//! schemathesis finds out, everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use cache_aside_handler::api::ENDPOINTS;
use cache_aside_handler::users::{Name, UserId};
use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::json as with_json;
use crate::support::handler::Handler;
use crate::support::host::repository;
use crate::support::{Answer, Azurite, Client, Redis, connection_string, fresh_table};
use crate::support::{on_servers, settings, start};

fn document() -> Value {
    let text = std::fs::read_to_string(repository().join("src/api/openapi.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a value is, or what it refers to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
        None => value,
    }
}

/// The operations by call, such as `GET /api/users/{id}`.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                operations.insert(format!("{} {path}", method.to_uppercase()), operation);
            }
        }
    }
    operations
}

#[tokio::test]
async fn the_document_is_served_as_it_is_in_the_repository() {
    let client = start(&settings(&[])).await;
    let served = client.get("/api/openapi.json").await;
    assert_eq!(served.status, 200);
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.json(), document());
    let head = client.send(client.request(Method::HEAD, "/api/openapi.json")).await;
    assert_eq!((head.status, &*head.text), (200, ""));
}

#[test]
fn the_document_has_the_endpoints_and_the_version_of_the_handler() {
    let document = document();
    let mut expected = BTreeMap::new();
    for endpoint in &ENDPOINTS {
        let function = &endpoint.function;
        for method in function.methods {
            let suffix = if *method == Method::HEAD { "-head" } else { "" };
            expected.insert(
                format!("{method} /{}", function.route),
                format!("{}{suffix}", function.name),
            );
        }
    }
    let operations: BTreeMap<_, _> = operations(&document)
        .into_iter()
        .map(|(call, operation)| (call, operation["operationId"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(operations, expected);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    // Relative to where it is served, behind every host and on every port.
    let servers = document["servers"].as_array().unwrap();
    assert_eq!(servers.iter().map(|server| &server["url"]).collect::<Vec<_>>(), ["/"]);
}

#[test]
fn the_readme_has_the_same_calls_and_statuses() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let section =
        readme.split("\n## The API\n").nth(1).unwrap().split("\n\nBodies").next().unwrap();
    let status = Regex::new("`([1-5][0-9]{2})`").unwrap();
    let mut described = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let (call, statuses) = row[2..].split_once(" | ").unwrap();
        let path = call.trim_matches('`').rsplit(' ').next().unwrap();
        let statuses: BTreeSet<_> =
            status.captures_iter(statuses).map(|found| found[1].to_owned()).collect();
        for method in call.split([' ', '`', ',']).filter(|word| !word.is_empty() && *word != path) {
            described.insert(format!("{method} {path}"), statuses.clone());
        }
    }
    let document = document();
    let responses = |operation: &Value| -> BTreeSet<_> {
        operation["responses"].as_object().unwrap().keys().cloned().collect()
    };
    let documented: BTreeMap<_, _> = operations(&document)
        .into_iter()
        .map(|(call, operation)| (call, responses(operation)))
        .collect();
    assert_eq!(described, documented);
}

/// Compared for each character on its own, between others, and at either end.
#[test]
fn a_name_is_valid_exactly_if_it_matches_the_patterns() {
    let document = document();
    let patterns = document["components"]["schemas"]["Name"]["allOf"].as_array().unwrap();
    let patterns: Vec<_> = patterns
        .iter()
        .map(|rule| {
            let pattern = rule["pattern"].as_str().unwrap();
            regex::RegexBuilder::new(pattern).size_limit(1 << 26).build().unwrap()
        })
        .collect();
    assert_eq!(patterns.len(), 2);
    let agree = |name: &str| {
        let matches = patterns.iter().all(|pattern| pattern.is_match(name));
        assert_eq!(matches, Name::parse(name).is_ok(), "{name:?}");
    };
    for c in char::MIN..=char::MAX {
        for name in [format!("{c}"), format!("a{c}b"), format!("{c}a"), format!("a{c}")] {
            agree(&name);
        }
    }
    for length in [0, 1, 255, 256, 257] {
        for space in ["", " \n\u{3000}"] {
            agree(&format!("{space}{}{space}", "é".repeat(length)));
        }
        agree(&format!("a{}b", " ".repeat(length)));
    }
}

#[test]
fn an_id_is_valid_exactly_if_it_matches_the_pattern() {
    let document = document();
    let pattern = &document["components"]["parameters"]["Id"]["schema"]["pattern"];
    let pattern = Regex::new(pattern.as_str().unwrap()).unwrap();
    let id = "01KB584F3Y9AF31621Q7N62Q67";
    let agree = |id: &str| {
        assert_eq!(pattern.is_match(id), id.parse::<UserId>().is_ok(), "{id:?}");
    };
    for c in '\0'..='\u{17f}' {
        agree(&format!("{c}{}", &id[1..]));
        agree(&format!("{}{c}", &id[..25]));
    }
    for text in ["", id, &id[1..], &format!("{id}0"), &id.to_lowercase()] {
        agree(text);
    }
}

/// The examples of one response.
fn examples<'a>(document: &'a Value, call: &str, status: u16) -> BTreeMap<&'a str, &'a Value> {
    let response = &operations(document)[call]["responses"][status.to_string()];
    let content = &resolve(document, response)["content"]["application/json"];
    let examples = content["examples"].as_object().into_iter().flatten();
    examples.map(|(name, example)| (name.as_str(), &example["value"])).collect()
}

#[test]
fn an_example_of_an_error_names_its_status() {
    let document = document();
    let mut named = 0;
    for (call, operation) in operations(&document) {
        for status in operation["responses"].as_object().unwrap().keys() {
            let status: reqwest::StatusCode = status.parse().unwrap();
            let phrase = status.canonical_reason().unwrap();
            for (name, example) in examples(&document, &call, status.as_u16()) {
                if example["detail"].is_string() || example["user_id"].is_string() {
                    let said = example["status"].as_str().unwrap();
                    assert!(said.eq_ignore_ascii_case(phrase), "{call} {status} {name}");
                    named += 1;
                }
            }
        }
    }
    assert!(named > 20, "{named}");
}

/// A response's body, without what differs each time.
fn comparable(mut body: Value) -> Value {
    for part in ["cache", "store"] {
        if let Some(ms) = body.pointer_mut(&format!("/{part}/ms")) {
            assert!(ms.is_f64());
            *ms = json!(0);
        }
    }
    body
}

/// The examples of errors that are not here are compared in `src/api/error.rs`.
#[tokio::test]
async fn the_examples_are_what_the_handler_answers() {
    let document = document();
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let mut given = vec![
        ("REDIS_URL", redis.url()),
        ("USERS_TABLE_CONNECTION", azurite.connection_string()),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    let client = start(&settings(&given)).await;
    given[1].1 = connection_string(1);
    let without_table = start(&settings(&given)).await;

    let path = "/api/users/01KB584F3Y9AF31621Q7N62Q67";
    let mut compared = BTreeSet::new();
    for (client, call, status, name, body) in [
        (&client, "GET /api/users/{id}", 404, "nobody", ""),
        (&client, "DELETE /api/users/{id}", 404, "nobody", ""),
        (&client, "PUT /api/users/{id}", 201, "created", r#"{"name":"Ada Lovelace"}"#),
        (&client, "GET /api/users/{id}", 200, "miss", ""),
        (&client, "GET /api/users/{id}", 200, "hit", ""),
        (&client, "PATCH /api/users/{id}", 200, "changed", r#"{"name":"Ada King"}"#),
        (&client, "PATCH /api/users/{id}", 400, "name", r#"{"name":""}"#),
        (&client, "GET /api/health", 200, "healthy", ""),
        (&client, "GET /api/live", 200, "alive", ""),
        (&without_table, "GET /api/health", 503, "unhealthy", ""),
    ] {
        let (method, route) = call.split_once(' ').unwrap();
        let request = client.request(method.parse().unwrap(), &path_of(route, path));
        let answer: Answer = client.send(with_json(request, body)).await;
        assert_eq!(answer.status, status, "{call}");
        let example = examples(&document, call, status)[name];
        assert_eq!(comparable(answer.json()), comparable(example.clone()), "{call}");
        compared.insert(name);
    }
    let of_successes = operations(&document)
        .into_keys()
        .flat_map(|call| [200, 201].into_iter().flat_map(move |status| names(&call, status)));
    for name in of_successes {
        assert!(compared.contains(&*name), "the example {name} was not compared");
    }
}

fn names(call: &str, status: u16) -> Vec<String> {
    examples(&document(), call, status).into_keys().map(str::to_owned).collect()
}

fn path_of(route: &str, path_of_user: &str) -> String {
    if route.contains("{id}") { path_of_user.to_owned() } else { route.to_owned() }
}

/// The seed of schemathesis, so that every run makes the same requests.
const SEED: &str = "2";

/// Runs schemathesis with all checks, and returns its report, too.
async fn schemathesis(client: &Client, document: &Path, arguments: &[&str]) -> (Output, Value) {
    let program = repository().join("target/schemathesis/bin/st");
    assert!(program.exists(), "no schemathesis: run scripts/install-schemathesis.sh");
    let folder = TempDir::new().unwrap();
    let report = folder.path().join("report.json");
    let mut command = tokio::process::Command::new(program);
    command.arg("--config-file").arg(repository().join("tests/openapi/schemathesis.toml"));
    command.arg("run").arg(document).args(["--url", &client.base]);
    command.args(["--checks", "all", "--seed", SEED, "--no-color", "--continue-on-failure"]);
    command.args(["--generation-database", "none", "--report", "json"]);
    command.arg("--report-json-path").arg(&report).args(arguments);
    let output = command.current_dir(folder.path()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(300), output).await;
    let output = output.expect("schemathesis takes half a minute").unwrap();
    let text = std::fs::read_to_string(report).unwrap_or_else(|_| panic!("{output:?}"));
    (output, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn schemathesis_finds_no_difference() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let handler = Handler::start(&on_servers(redis.port, azurite.port)).await;
    let document_file = repository().join("src/api/openapi.json");
    let (output, report) =
        schemathesis(&handler.client, &document_file, &["--max-examples", "200"]).await;
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");
    assert!(output.status.success(), "schemathesis has found something:\n{printed}");

    // It has tested what there is, and has got what it must have got to compare it.
    let document = document();
    assert_eq!(report["operations"]["tested"], operations(&document).len());
    assert_eq!(report["complete"], true);
    for phase in ["examples", "coverage", "fuzzing", "stateful"] {
        assert_eq!(report["phases"][phase]["status"], "success", "{report:#}");
    }
    assert!(report["test_cases"]["generated"].as_u64().unwrap() > 1000, "{report:#}");
    for (call, statuses) in [
        ("POST /api/users", &[201, 400, 415][..]),
        ("GET /api/users/{id}", &[200, 304, 404]),
        ("HEAD /api/users/{id}", &[200, 304, 404]),
        ("PUT /api/users/{id}", &[200, 201, 400, 412, 415]),
        ("PATCH /api/users/{id}", &[200, 400, 404, 412, 415]),
        ("DELETE /api/users/{id}", &[204, 404, 412]),
        ("TRACE -", &[405]),
    ] {
        for status in statuses {
            let line = format!("request: {call} {status} ");
            assert!(handler.logged(&line), "schemathesis has not caused {line}\n{printed}");
        }
    }
}

/// With a document that is wrong in many ways, each of them is found.
#[tokio::test]
async fn schemathesis_finds_what_is_wrong() {
    let mut document = document();
    let mut expected = BTreeSet::new();
    for (part, wrong, finding) in [
        ("/components/schemas/Read/properties/source", json!({"const": "disk"}), "JsonSchemaError"),
        ("/components/schemas/Name/allOf", json!([{"maxLength": 3}]), "AcceptedNegativeData"),
        (
            "/components/schemas/RequiredName/additionalProperties",
            json!(true),
            "RejectedPositiveData",
        ),
        (
            "/paths/~1api~1users~1{id}/delete/responses",
            json!({"404": {"description": ""}}),
            "UndefinedStatusCode",
        ),
        (
            "/paths/~1api~1live/get/responses/200/content",
            json!({"text/plain": {}}),
            "UndefinedContentType",
        ),
        (
            "/paths/~1api~1health/get/responses/200/headers",
            json!({"X": {"required": true, "schema": {"type": "string"}}}),
            "MissingHeaders",
        ),
    ] {
        *document.pointer_mut(part).expect(part) = wrong;
        expected.insert(finding);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();

    let client = start(&settings(&[])).await;
    let (output, report) = schemathesis(&client, &file, &["--max-examples", "20"]).await;
    assert!(!output.status.success());
    let failures = report["failures"].as_array().unwrap().iter();
    let found: BTreeSet<_> = failures.map(|failure| failure["type"].as_str().unwrap()).collect();
    assert_eq!(found, expected);
}
