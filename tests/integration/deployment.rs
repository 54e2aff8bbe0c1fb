//! The deployment files and the handler agree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::support::host::{FunctionApp, Host, Mode, repository};
use cache_aside_handler::api::ENDPOINTS;
use cache_aside_handler::settings::{Settings, VARIABLES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|_| panic!("{path} is missing"))
}

/// `NAME=value` lines.
fn environment(path: &str) -> BTreeMap<String, String> {
    read(path)
        .lines()
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The environment that the last stage of the Dockerfile sets.
fn image_environment() -> BTreeMap<String, String> {
    let dockerfile = read("Dockerfile");
    let (_, stage) = dockerfile.rsplit_once("\nFROM ").expect("several stages");
    let (_, env) = stage.split_once("\nENV ").expect("an ENV instruction");
    let mut environment = BTreeMap::new();
    for line in env.lines() {
        let pair = line.trim().trim_end_matches('\\').trim();
        let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("ENV {pair}"));
        environment.insert(name.to_owned(), value.to_owned());
        if !line.ends_with('\\') {
            break;
        }
    }
    environment
}

/// Checks that the handler accepts these settings, and that each is one of its own or of the host's.
fn settings(environment: &BTreeMap<String, String>) -> Settings {
    for name in environment.keys() {
        let of_handler = VARIABLES.iter().any(|variable| variable.name == name);
        let prefixes =
            ["AzureWebJobs", "AzureFunctionsJobHost__", "FUNCTIONS_", "ASPNETCORE_", "OTEL_"];
        let of_host = prefixes.iter().any(|prefix| name.starts_with(prefix));
        assert!(of_handler || of_host, "{name} is not a setting of the handler or of the host");
    }
    let value = |name: &str| environment.get(name).cloned();
    Settings::read(&value, environment.keys().cloned()).expect("valid settings")
}

#[test]
fn the_settings_of_the_overlays_are_valid() {
    for (overlay, is_passwordless) in [("k3s", false), ("azure", true)] {
        let mut all = image_environment();
        all.extend(environment("kustomize/base/settings.env"));
        all.extend(environment(&format!("kustomize/overlays/{overlay}/settings.env")));
        let settings = settings(&all);
        assert!(settings.table.is_some(), "{overlay} has no table");
        let redis = settings.redis.expect("a Redis");
        assert_eq!(redis.identity.is_some(), is_passwordless, "{overlay}");
        assert_eq!(settings.warnings, [] as [&str; 0]);
    }
}

/// The host reads the same variables: the handler exports by http/protobuf only, so both must.
#[test]
fn the_telemetry_component_and_the_bicep_switch_the_handler_and_the_host_on() {
    let mut all = image_environment();
    let component = environment("kustomize/components/telemetry/settings.env");
    all.extend(component.clone());
    let endpoint = settings(&all).telemetry.expect("an endpoint");
    assert_eq!(endpoint.port(), Some(4318));
    let policy = read("kustomize/components/telemetry/networkpolicy.yaml");
    assert!(policy.contains("- port: 4318\n"));
    assert_eq!(component["AzureFunctionsJobHost__telemetryMode"], "OpenTelemetry");
    assert_eq!(component["OTEL_EXPORTER_OTLP_PROTOCOL"], "http/protobuf");

    let bicep = read("infra/app.bicep");
    let block = bicep.split("var telemetry = ").nth(1).expect("its settings");
    let block = block.split("\n}").next().unwrap();
    let names: Vec<_> = block
        .lines()
        .skip(1)
        .filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name))
        .collect();
    assert_eq!(names, component.keys().collect::<Vec<_>>());
    assert!(block.contains("_PROTOCOL: 'http/protobuf'"));
}

#[test]
fn the_settings_of_compose_are_valid() {
    let compose = read("compose.yaml");
    let block = compose.split("environment:\n").nth(1).expect("an environment");
    let mut all = image_environment();
    for line in block.lines().take_while(|line| line.starts_with("      ")) {
        let (name, value) = line.trim().split_once(": ").expect("NAME: value");
        all.insert(name.to_owned(), value.to_owned());
    }
    let settings = settings(&all);
    assert!(settings.table.is_some() && settings.redis.is_some());
    assert!(compose.contains(":7071:8080\""), "the port of func start, on the image's");
}

#[test]
fn the_settings_of_the_bicep_are_known() {
    let bicep = read("infra/app.bicep");
    let block = bicep.split("name: 'appsettings'").nth(1).expect("app settings");
    let names: Vec<_> = block
        .lines()
        .skip(2)
        .map_while(|line| line.trim().split_once(": ").map(|(name, _)| name))
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let of_handler = VARIABLES.iter().any(|variable| variable.name == name);
        let of_host =
            name.starts_with("AzureWebJobsStorage__") || name.starts_with("APPLICATIONINSIGHTS_");
        assert!(of_handler || of_host, "{name} is not a setting of the handler or of the host");
    }
    assert!(bicep.contains("clusteringPolicy: 'EnterpriseCluster'"), "one REDIS_URL, no cluster");
}

#[test]
fn ports_and_paths_are_the_same_everywhere() {
    let image = image_environment();
    assert_eq!(image["ASPNETCORE_URLS"], "http://+:8080");
    assert_eq!(image["AzureWebJobsScriptRoot"], "/home/site/wwwroot");
    let (dockerfile, deployment) = (read("Dockerfile"), read("kustomize/base/deployment.yaml"));
    assert!(
        dockerfile.contains("\nEXPOSE 8080\n") && dockerfile.contains("/dev/tcp/127.0.0.1/8080")
    );
    assert!(deployment.contains("containerPort: 8080"));
    assert_eq!(deployment.matches("path: /api/live").count(), 3, "start-up, readiness, liveness");
    assert_eq!(
        deployment.matches("path: ").count(),
        3,
        "none of them depends on Redis or the table"
    );
    assert!(ENDPOINTS.iter().any(|endpoint| endpoint.function.route == "api/live"));
    assert!(dockerfile.contains("GET /api/live "));
    for writable in ["/tmp", "/azure-functions-host/Secrets"] {
        assert!(deployment.contains(&format!("mountPath: {writable}\n")));
        assert!(read("compose.yaml").contains(&format!("- {writable}")));
    }
    let (user, group) = ("runAsUser: 10001", "runAsGroup: 10001");
    assert!(
        dockerfile.contains("USER 10001:10001")
            && deployment.contains(user)
            && deployment.contains(group)
    );
    // One version, in the crate and in the images' names.
    for overlay in ["k3s", "azure", "release"] {
        let kustomization = read(&format!("kustomize/overlays/{overlay}/kustomization.yaml"));
        assert!(kustomization.contains(&format!("newTag: {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

/// The value after this name in a YAML file, which must contain it once.
fn number(file: &str, name: &str) -> u64 {
    let text = read(file);
    let mut values =
        text.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    let value = values.next().unwrap_or_else(|| panic!("{file} has no {name}"));
    assert_eq!(values.next(), None, "{file} has several {name}");
    value.parse().unwrap_or_else(|_| panic!("{file}: {name}: {value}"))
}

#[test]
fn a_pod_has_time_to_finish_its_calls() {
    let deployment = "kustomize/base/deployment.yaml";
    // The grace period includes preStop; after it the host lets calls finish for at most 30 s.
    let used = number(deployment, "seconds") + 30;
    assert!(number(deployment, "terminationGracePeriodSeconds") > used);
}

/// The host writes a file of keys for a function that has none, but the component's folder is read-only.
#[test]
fn the_function_keys_component_has_a_file_for_each_function() {
    let component = read("kustomize/components/function-keys/kustomization.yaml");
    let mut files: Vec<_> = component
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ")?.strip_suffix(".json={\"keys\":[]}"))
        .collect();
    files.sort_unstable();
    let mut functions: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.function.name).collect();
    functions.sort_unstable();
    assert_eq!(files, functions);
    assert!(component.contains("mountPath: /azure-functions-host/Secrets\n"));
    assert_eq!(image_environment()["AzureWebJobsSecretStorageType"], "files");
}

#[test]
fn the_bicep_has_the_outputs_that_the_guide_reads() {
    let (bicep, guide) = (read("infra/main.bicep"), read("docs/deploy.md"));
    let mut names = 0;
    for rest in guide.split("azd env get-value ").skip(1) {
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len());
        assert!(bicep.contains(&format!("\noutput {} string", &rest[..end])), "{}", &rest[..end]);
        names += 1;
    }
    assert!(names >= 5, "the API, the identity's name and client id, the table and Redis");
}

/// The command of the image's `HEALTHCHECK`, as Docker reads it, with this port instead of 8080.
fn health_check(port: u16) -> Vec<String> {
    let dockerfile = read("Dockerfile");
    let instruction = dockerfile.split("\nHEALTHCHECK ").nth(1).expect("a HEALTHCHECK");
    let command = instruction.split("CMD ").nth(1).and_then(|rest| rest.lines().next());
    let arguments: Vec<String> =
        serde_json::from_str(command.expect("a CMD")).expect("a JSON array of strings");
    arguments.iter().map(|argument| argument.replace("8080", &port.to_string())).collect()
}

/// Answers one request as the Functions host does: with `status` if it is HTTP/1.1 with a `Host` and
/// asks for `/api/live`, and with 500 otherwise.
async fn answer_as_the_host(listener: TcpListener, status: &str) {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(connection.read_buf(&mut request).await.unwrap(), 0, "a request that ends");
    }
    let request = String::from_utf8(request).unwrap();
    let mut lines = request.lines();
    let is_http_1_1 = lines.next() == Some("GET /api/live HTTP/1.1");
    let has_host = lines.any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("host") && !value.trim().is_empty()
    });
    let status = if is_http_1_1 && has_host { status } else { "500 Internal Server Error" };
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    connection.write_all(response.as_bytes()).await.unwrap();
}

/// Whether the image's health check, changed by `edit`, succeeds when `/api/live` has this status.
async fn is_healthy(status: &str, edit: impl Fn(String) -> String) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = health_check(listener.local_addr().unwrap().port()).into_iter().map(edit);
    let check = tokio::process::Command::new(command.next().unwrap())
        .args(command)
        .kill_on_drop(true)
        .status();
    let (_, exit) = tokio::join!(answer_as_the_host(listener, status), check);
    exit.unwrap().success()
}

#[tokio::test]
async fn the_health_check_of_the_image_is_understood_by_the_host() {
    let unchanged = |argument| argument;
    assert!(is_healthy("200 OK", unchanged).await);
    assert!(!is_healthy("503 Service Unavailable", unchanged).await);
    // What a health check must not do, and what this test would notice.
    let with_http_1_0 = |argument: String| argument.replace("HTTP/1.1", "HTTP/1.0");
    let without_host = |argument: String| argument.replace("Host: localhost", "Accept: */*");
    assert!(!is_healthy("200 OK", with_http_1_0).await);
    assert!(!is_healthy("200 OK", without_host).await);
}

#[test]
fn the_host_finds_the_binary_by_its_name() {
    let app = FunctionApp::read(repository());
    let executable = app.host["customHandler"]["description"]["defaultExecutablePath"].as_str();
    assert_eq!(executable, Some("handler"));
    assert!(read("Dockerfile").contains("COPY --from=binary /handler /home/site/wwwroot/\n"));
}

/// Not even Azurite's published key.
#[test]
fn there_is_no_key_in_the_repository() {
    let listed = Command::new("git").arg("ls-files").current_dir(repository()).output().unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    assert!(files.lines().count() > 50);
    let mark = ["Account", "Key="].concat();
    for file in files.lines().filter(|file| {
        !["bench/src/", "crates/", "src/", "tests/"].iter().any(|code| file.starts_with(code))
    }) {
        let Ok(text) = std::fs::read_to_string(repository().join(file)) else { continue };
        assert!(!text.contains(&mark), "{file} has a key");
        assert!(!text.contains("Eby8vdM02xNOcqFl"), "{file} has Azurite's key");
        if !file.starts_with("scripts/") {
            assert!(!text.contains(":latest"), "{file} names no version");
        }
    }
}

#[test]
fn azurite_sends_no_telemetry_wherever_it_is_started() {
    let listed = Command::new("git").arg("ls-files").current_dir(repository()).output().unwrap();
    let mut starts = 0;
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = std::fs::read_to_string(repository().join(file)) else { continue };
        // Azurite is always started with this flag, because the SDKs are newer than it.
        let started = text.matches("--skipApiVersionCheck").count();
        let quiet = text.matches("--disableTelemetry").count();
        assert_eq!(started, quiet, "{file} starts Azurite with telemetry");
        starts += started;
    }
    assert!(starts >= 5, "compose, k3s, up.sh, bench.sh and the tests start Azurite");
}

/// The content of the image, without an engine to build it: copied by the Dockerfile's own lines, and
/// started by the host with the image's environment.
#[tokio::test]
async fn the_content_of_the_image_runs_behind_the_host() {
    let folder = tempfile::TempDir::new().unwrap();
    let laid_out: PathBuf = folder.path().join("wwwroot");
    let done = Command::new(repository().join("scripts/layout.sh"))
        .arg(&laid_out)
        .arg(env!("CARGO_BIN_EXE_handler"))
        .status()
        .unwrap();
    assert!(done.success());
    let mut names: Vec<_> = std::fs::read_dir(&laid_out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected: Vec<_> =
        ENDPOINTS.iter().map(|endpoint| endpoint.function.name.to_owned()).collect();
    expected.extend(["handler".to_owned(), "host.json".to_owned()]);
    expected.sort();
    assert_eq!(names, expected, "nothing else");

    for mode in [Mode::Proxy, Mode::Payload] {
        let mut environment: Vec<_> = image_environment().into_iter().collect();
        environment.extend(mode.settings());
        let host = Host::start_in(&laid_out, environment).await;
        let path = host.client.create("Ann").await;
        assert_eq!(host.client.get(&path).await.name(), "Ann");
    }
}

/// The host ends with code 0 when its handler has failed three times, so `on-failure` would not do.
#[tokio::test]
async fn after_a_bad_setting_the_host_gives_up_and_compose_starts_it_again() {
    let tasks = tokio::task::LocalSet::new();
    let start = tasks.spawn_local(async {
        Host::start(Mode::Proxy, &[("REDIS_URL", "http://redis".to_owned())]).await.starts()
    });
    let given_up = tasks.run_until(start).await.unwrap_err().into_panic();
    let given_up = given_up.downcast_ref::<String>().expect("a message");
    assert!(given_up.contains("the host has given up"), "{given_up}");
    assert_eq!(given_up.matches("REDIS_URL=").count(), 3, "{given_up}");

    let compose = read("compose.yaml");
    let app = compose.split("\n  redis:").next().unwrap();
    assert!(app.contains("\n    restart: unless-stopped\n"), "{app}");
}
