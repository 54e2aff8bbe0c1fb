//! Chromium without a window, driven through chromedriver (<https://www.w3.org/TR/webdriver2/>).

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::Process;

use super::free_port;

const INSTALL: &str = "apt-get install chromium chromium-driver";

/// The key of an element's id in answers of WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one page. It ends when it is dropped.
pub struct Browser {
    http: reqwest::Client,
    session: String,
    process: String,
    _driver: Process,
    /// Its profile, and what it and chromedriver leave behind.
    _folder: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it. chromedriver, which is killed, would leave it running.
        let kill =
            |signal: &str| Command::new("kill").args([signal, self.process.as_str()]).output();
        let _ = kill("-TERM");
        let start = Instant::now();
        while kill("-0").is_ok_and(|kill| kill.status.success()) {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = kill("-KILL");
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A line in the browser's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Such as `network`, `javascript` or `security`.
    pub source: String,
    pub message: String,
}

impl Browser {
    /// Starts a browser with an empty profile.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).env("TMPDIR", folder.path());
        let driver = Process::start(driver, port, INSTALL);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{port}/session");
        let answer = send(&http, &url, Some(capabilities(&folder))).await;
        let started = answer.unwrap_or_else(|error| {
            panic!("Chromium does not start ({error}): install it with `{INSTALL}`")
        });
        let session = started["sessionId"].as_str().expect("a session");
        let process = started["capabilities"]["goog:processID"].as_u64().expect("its process id");
        Self {
            session: format!("{url}/{session}"),
            process: process.to_string(),
            http,
            _driver: driver,
            _folder: folder,
        }
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let answer = send(&self.http, &format!("{}/{command}", self.session), Some(body)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    async fn get(&self, what: &str) -> Value {
        let answer = send(&self.http, &format!("{}/{what}", self.session), None).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub async fn open(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    async fn find(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", query).await;
        format!("element/{}", found[ELEMENT].as_str().expect("an element"))
    }

    /// Clicks the element where a user would see it; fails if another one covers it.
    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.post(&format!("{element}/click"), json!({})).await;
    }

    /// Replaces the text of a field.
    pub async fn enter(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("{element}/clear"), json!({})).await;
        self.post(&format!("{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys, one after another, whatever has the focus.
    pub async fn press(&self, keys: &str) {
        let press = |key: char| {
            [
                json!({ "type": "keyDown", "value": key.to_string() }),
                json!({ "type": "keyUp", "value": key.to_string() }),
            ]
        };
        let actions: Vec<_> = keys.chars().flat_map(press).collect();
        let keyboard = json!([{ "type": "key", "id": "keyboard", "actions": actions }]);
        self.post("actions", json!({ "actions": keyboard })).await;
    }

    /// The text of an element as it is displayed.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await;
        self.get(&format!("{element}/text")).await.as_str().unwrap_or_default().to_owned()
    }

    /// The value of a JavaScript expression.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// What the browser has logged since the last call of this.
    pub async fn log(&self) -> Vec<LogLine> {
        let log = self.post("se/log", json!({ "type": "browser" })).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = log.as_array().expect("log lines").iter();
        lines
            .map(|line| LogLine { source: text(&line["source"]), message: text(&line["message"]) })
            .collect()
    }

    /// Sends a command of the DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Makes the browser prefer the colour scheme `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// A picture of what is visible, as PNG in base64.
    pub async fn screenshot(&self) -> String {
        self.get("screenshot").await.as_str().unwrap_or_default().to_owned()
    }
}

fn capabilities(folder: &TempDir) -> Value {
    let arguments = json!([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        format!("--user-data-dir={}", folder.path().join("profile").display()),
    ]);
    json!({ "capabilities": { "alwaysMatch": {
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
    }}})
}

/// Sends a command, a POST if it has a body, and returns its value, or the error's message.
async fn send(http: &reqwest::Client, url: &str, body: Option<Value>) -> Result<Value, String> {
    let request = match body {
        Some(body) => http.post(url).body(body.to_string()),
        None => http.get(url),
    };
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let is_success = answer.status().is_success();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match is_success {
        true => Ok(answer["value"].clone()),
        false => Err(answer["value"]["message"].as_str().unwrap_or_default().to_owned()),
    }
}
