//! The demonstration page in a browser: what it shows is compared with what the servers do.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use warp::Filter;
use warp::http::{Method, Response};

use crate::support::browser::Browser;
use crate::support::client::json as with_json;
use crate::support::{Azurite, Client, Redis, eventually, fresh_table, settings, start};

const PATIENCE: Duration = Duration::from_secs(30);

const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";

/// The page of a handler in a browser.
struct Demo {
    browser: Browser,
    client: Client,
}

/// The page of a handler on servers of its own.
async fn on_servers(given: &[(&str, String)]) -> (Demo, Redis, Azurite) {
    let (redis, azurite) = (Redis::start(), Azurite::start());
    let mut all = vec![
        ("REDIS_URL", redis.url()),
        ("USERS_TABLE_CONNECTION", azurite.connection_string()),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    all.extend(given.iter().cloned());
    (Demo::open(&all).await, redis, azurite)
}

impl Demo {
    async fn open(given: &[(&str, String)]) -> Self {
        let client = start(&settings(given)).await;
        let demo = Self { browser: Browser::start().await, client };
        demo.visit(&demo.client.base).await;
        demo
    }

    /// Opens the page of this origin, and waits until its script has started.
    async fn visit(&self, base: &str) {
        self.browser.open(&format!("{base}/api/demo")).await;
        self.shows("#health", "Healthy").await;
    }

    /// Waits until the text of an element contains this one, and returns it.
    async fn shows(&self, selector: &str, expected: &str) -> String {
        eventually(PATIENCE, &format!("{selector} shows {expected:?}"), || async {
            self.browser.text(selector).await.contains(expected)
        })
        .await;
        self.browser.text(selector).await
    }

    /// Clicks a button, and waits for what is said of the call.
    async fn click(&self, button: &str, said: &str) {
        // What was said of the call before must not be mistaken for it.
        self.browser.value("document.querySelector('#said').textContent = ''").await;
        self.browser.click(button).await;
        self.shows("#said", said).await;
    }

    /// A number in a table of counts: the first one in the row with this heading.
    async fn count(&self, table: &str, heading: &str) -> u64 {
        let rows = self.browser.text(table).await;
        let row = rows.lines().find(|line| line.contains(heading));
        let row = row.unwrap_or_else(|| panic!("no {heading:?} in {rows}"));
        let rest = row.rsplit(heading).next().unwrap_or_default();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Fails if the browser has logged anything but responses with these statuses, which it logs as errors.
    async fn logged_nothing_but(&self, statuses: &[u16]) {
        for line in self.browser.log().await {
            let expected = |status: &u16| line.message.contains(&format!("a status of {status} "));
            let is_expected = line.source == "network" && statuses.iter().any(expected);
            assert!(is_expected, "{line:?}");
        }
    }
}

#[tokio::test]
async fn the_page_shows_where_each_answer_came_from() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    let browser = &demo.browser;
    demo.shows("#health", "Redis works; users: the table works").await;

    // A name with markup is text.
    let name = "<img src=x onerror=alert(1)> & Ada";
    browser.enter("#new-name", name).await;
    demo.click("#create button", &format!("Created “{name}”")).await;
    demo.click("#read button", "Redis did not have it").await;
    let way = browser.value("document.querySelector('#diagram svg').ariaLabel").await;
    let way = way.as_str().unwrap();
    let expected = "User to Function: GET; Function to Redis: get; Redis to Function: miss, lease; \
         Function to Table: load; Table to Function: row; Function to Redis: fill; \
         Function to User: 200 table. Redis ";
    assert!(way.starts_with(expected) && way.contains(" ms, Table "), "{way}");
    demo.shows("#life-text", "Stored in the cache").await;
    demo.click("#read button", "Redis had the answer").await;
    demo.shows("#life-text", "expires within").await;
    let left = browser.value("Number(document.querySelector('#life-left').value)").await;
    assert!((1.0..=10_000.0).contains(&left.as_f64().unwrap()), "{left}");

    browser.enter("#burst-size", "8").await;
    demo.click("#burst button", "8 of these 8 reads were answered from the cache").await;
    assert_eq!(browser.text("#hit-ratio").await, "90 %"); // 9 of 10
    assert!(browser.text("#quotient-browser").await.ends_with(" ×"));
    assert_eq!(demo.count("#medians", "the table").await, 1);
    assert_eq!(demo.count("#medians", "the cache").await, 9);
    // As many marks as reads, in two shapes.
    let marks =
        "['rect', 'circle'].map(it => document.querySelectorAll(`#plot ${it}.mark`).length)";
    assert_eq!(browser.value(marks).await, json!([1, 9]));
    let newest = browser.text("#log tbody tr").await;
    assert!(newest.contains("200 redis cache-aside; hit; ttl="), "{newest}");

    browser.enter("#renamed", "Zoe Quux").await;
    demo.click("#rename button", "Renamed “Zoe Quux”").await;
    demo.click("#read button", "“Zoe Quux”. Redis did not have it").await;
    assert!(browser.text("#users").await.starts_with("Zoe Quux (…"));
    demo.click("#create button", "Created").await; // and has its id selected
    browser.click("#users option:last-child").await;
    demo.click("#read button", "“Zoe Quux”. Redis had the answer").await;
    demo.click("#delete", "Deleted").await;
    demo.click("#read button", "There is no such user").await;
    assert!(!browser.text("#users").await.contains("Zoe Quux"));

    // Reads every so often, which go on until they are stopped.
    browser.enter("#interval-ms", "50").await;
    browser.click("#forget").await;
    browser.click("#interval-button").await;
    eventually(PATIENCE, "several reads", || async {
        browser.text("#medians").await.contains("the cache")
            && demo.count("#medians", "the cache").await > 3
    })
    .await;
    browser.click("#interval-button").await;
    assert_eq!(browser.text("#interval-button").await, "Start reading");
    demo.logged_nothing_but(&[404]).await;
}

#[tokio::test]
async fn a_stampede_reads_the_table_once() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    demo.browser.enter("#stampede-size", "40").await;
    demo.browser.click("#stampede button").await;
    demo.shows("#stampede-said", "Of 40 readers, 1 read the table.").await;
    let counted = [
        demo.count("#stampede-counts", "read the table").await,
        demo.count("#stampede-counts", "shared another reader’s load").await,
        demo.count("#stampede-counts", "found it in the cache").await,
    ];
    assert_eq!(counted.iter().sum::<u64>(), 40, "{counted:?}");
    let cells = demo.browser.value("document.querySelectorAll('#stampede-cells span').length");
    assert_eq!(cells.await, 40);
    demo.logged_nothing_but(&[]).await;
}

/// Lets the page race for two seconds.
async fn race(demo: &Demo) -> String {
    demo.browser.enter("#race-seconds", "2").await;
    demo.browser.click("#race-button").await;
    demo.shows("#race-said", "Of ").await
}

#[tokio::test]
async fn a_race_finds_no_read_that_is_too_old() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    let verdict = race(&demo).await;
    assert!(verdict.ends_with("reads, none was too old, and none went backwards."), "{verdict}");
    assert_eq!(demo.browser.text("#race-old").await, "0");
    assert_eq!(demo.browser.text("#race-backwards").await, "0");
    for heading in ["writes answered", "reads from the table", "reads from the cache"] {
        assert!(demo.count("#race-counts", heading).await > 5, "too few to find anything");
    }
    demo.logged_nothing_but(&[]).await;
}

/// Forwards calls to the handler. Every other read of a user is answered with what an earlier read returned.
async fn in_front_of(handler: Client) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = warp::method().and(warp::path::full()).and(warp::body::bytes()).then(
        move |method: Method, path: warp::path::FullPath, body: Bytes| {
            let (handler, answers) = (handler.clone(), answers.clone());
            async move {
                let request = handler.request(method.clone(), path.as_str());
                let body = String::from_utf8(body.to_vec()).unwrap();
                let answer = handler.send(with_json(request, body)).await;
                let mut text = answer.text;
                if method == Method::GET && path.as_str().starts_with("/api/users/") {
                    let mut answers = answers.lock().unwrap();
                    answers.push(text.clone());
                    if answers.len() % 2 == 0 {
                        text = answers[answers.len().saturating_sub(100)].clone();
                    }
                }
                let mut response = Response::new(text);
                *response.status_mut() = answer.status.try_into().unwrap();
                for name in ["content-type", "content-security-policy", "cache-status"] {
                    let value = answer.headers.get(name);
                    value.map(|value| response.headers_mut().insert(name, value.clone()));
                }
                response
            }
        },
    );
    tokio::spawn(warp::serve(all).incoming(listener).run());
    format!("http://{address}")
}

#[tokio::test]
async fn a_race_finds_reads_that_are_too_old() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    demo.visit(&in_front_of(demo.client.clone()).await).await;
    let verdict = race(&demo).await;
    for figure in ["#race-old", "#race-backwards"] {
        let found: u64 = demo.browser.text(figure).await.parse().unwrap();
        assert!(found > 0, "{figure}: {verdict}");
    }
    assert!(demo.browser.text("#race-examples").await.contains("a newer number was already read"));
    demo.logged_nothing_but(&[]).await;
}

#[tokio::test]
async fn an_outage_is_shown_as_what_it_is() {
    let expires_soon = [
        ("CACHE_TTL", "500ms".to_owned()),
        ("CACHE_NEGATIVE_TTL", "0s".to_owned()),
        ("TABLE_TIMEOUT", "1s".to_owned()),
    ];
    let (demo, mut redis, azurite) = on_servers(&expires_soon).await;
    demo.click("#create button", "Created").await;
    demo.click("#read button", "comes from the table").await;

    redis.stop();
    demo.click("#read button", "Redis did not answer. No request fails because of that").await;
    demo.shows("#health", "Degraded").await;
    demo.shows("#health", "Redis cannot be reached; users: the table works").await;
    redis.restart();
    demo.shows("#health", "Healthy").await; // without a reload

    demo.click("#read button", "Redis did not have it").await;
    azurite.stop();
    // Once the entry has expired.
    eventually(PATIENCE, "a stale copy", || async {
        demo.browser.click("#read button").await;
        demo.browser.text("#said").await.contains("This is a copy, which may be out of date")
    })
    .await;
    demo.shows("#health", "Unhealthy").await;
    demo.browser.enter("#id", "01KB584F3Y9AF31621Q7N62Q67").await;
    demo.click("#read button", "Failed with 503 Service unavailable: ").await;
    demo.shows("#said", "Retry-After: 1 s.").await;
    assert_eq!(demo.count("#medians", "errors").await, 1);
    let newest = demo.browser.text("#log tbody tr").await;
    assert!(newest.starts_with("GET /api/users/…N62Q67 503"), "{newest}");
    azurite.restart();
    demo.shows("#health", "Healthy").await;
    demo.logged_nothing_but(&[503]).await;
}

/// A handler's own copies, which it uses without asking Redis.
#[tokio::test]
async fn a_local_copy_is_shown_as_one() {
    let (demo, _redis, _azurite) = on_servers(&[("CACHE_LOCAL_TTL", "2s".to_owned())]).await;
    demo.click("#create button", "Created").await;
    demo.click("#read button", "comes from the table").await;
    demo.click("#read button", "own copy, without asking Redis").await;
    assert_eq!(demo.count("#medians", "copies in the handler").await, 1);
    demo.logged_nothing_but(&[]).await;
}

/// What `make run` serves: the cache and the users are in the handler's memory.
#[tokio::test]
async fn the_parts_of_the_embedded_default_are_named() {
    let demo = Demo::open(&[]).await;
    demo.shows("#health", "the cache in process works; users: the store in process works").await;
    demo.click("#create button", "Created").await;
    demo.click("#read button", "The cache in process did not have it").await;
    demo.click("#read button", "The cache in process had the answer").await;
    assert_eq!(demo.count("#medians", "the cache").await, 1);
    let newest = demo.browser.text("#log tbody tr").await;
    assert!(newest.contains("200 memory cache-aside; hit; ttl="), "{newest}");
    let lanes = demo.browser.text("#diagram").await;
    assert!(lanes.contains("Cache") && !lanes.contains("Redis"), "{lanes}");
    demo.logged_nothing_but(&[]).await;
}

#[tokio::test]
async fn the_page_works_by_keyboard_and_with_a_screen_reader() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    let browser = &demo.browser;
    // The link to the controls is the first stop; the name is the first one after it.
    browser.press(&format!("{TAB}{ENTER}{TAB}Ada{TAB}{ENTER}")).await;
    demo.shows("#said", "Created “Ada”").await;
    browser.press(&format!("{TAB}{TAB}{TAB}{ENTER}")).await;
    demo.shows("#said", "comes from the table").await;

    let tree = browser.devtools("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().unwrap();
    let of_role = |role: &'static str| {
        nodes.iter().filter(move |node| node["ignored"] == false && node["role"]["value"] == role)
    };
    for role in ["main", "banner", "status"] {
        assert_eq!(of_role(role).count(), 1, "{role}");
    }
    let name = |node: &Value| node["name"]["value"].as_str().unwrap_or_default().to_owned();
    let roles =
        ["button", "textbox", "spinbutton", "listbox", "progressbar", "image", "region", "table"];
    for role in roles {
        let names: Vec<_> = of_role(role).map(name).collect();
        assert!(!names.is_empty(), "no {role}");
        if role != "table" {
            assert!(names.iter().all(|name| !name.is_empty()), "{role}: {names:?}");
        }
    }
    demo.logged_nothing_but(&[]).await;
}

#[tokio::test]
async fn the_page_fits_narrow_screens_and_follows_the_colour_scheme() {
    let (demo, _redis, _azurite) = on_servers(&[]).await;
    let browser = &demo.browser;
    demo.click("#create button", "Created").await;
    demo.click("#read button", "comes from the table").await;
    for width in [320, 360, 768, 1280, 2560] {
        browser.resize(width, 800).await;
        eventually(PATIENCE, &format!("no wider than {width}"), || async {
            let scrolled = browser.value("document.documentElement.scrollWidth").await;
            scrolled.as_u64().unwrap() <= u64::from(width)
        })
        .await;
    }
    let background = "getComputedStyle(document.body).backgroundColor";
    browser.prefer("light").await;
    let light = browser.value(background).await;
    browser.prefer("dark").await;
    assert_ne!(browser.value(background).await, light);
    demo.logged_nothing_but(&[]).await;
}

/// Draws the page in several sizes into `target/tmp`; the first picture is `docs/demo.png`.
#[tokio::test]
#[ignore = "makes pictures, and checks nothing"]
async fn pictures() {
    let (demo, _redis, _azurite) = on_servers(&[("CACHE_TTL", "2s".to_owned())]).await;
    let browser = &demo.browser;
    for _ in 0..3 {
        demo.click("#create button", "Created").await;
    }
    browser.enter("#interval-ms", "90").await;
    browser.click("#interval-button").await;
    eventually(PATIENCE, "five reads of the table", || async {
        browser.text("#medians").await.contains("the cache")
            && demo.count("#medians", "the table").await == 5
    })
    .await;
    browser.click("#interval-button").await;
    browser.click("#stampede button").await;
    demo.shows("#stampede-said", "Of 50 readers").await;
    race(&demo).await;
    demo.click("#read button", "Redis did not have it").await; // the entry has expired meanwhile
    browser.value("scrollTo(0, 0)").await;
    browser.devtools("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await;
    for (name, scheme, width, height) in [
        ("demo", "light", 1280, 1655),
        ("demo-dark", "dark", 1280, 2800),
        ("demo-narrow", "light", 360, 2400),
    ] {
        browser.prefer(scheme).await;
        browser.resize(width, height).await;
        tokio::time::sleep(Duration::from_secs(1)).await; // all messages have lit up
        let picture = STANDARD.decode(browser.screenshot().await).unwrap();
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(file, picture).unwrap();
    }
}
