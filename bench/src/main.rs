//! `make bench`: what the handler's guarantees and limits cost, measured in one run beside something
//! comparable. Other programs on the machine change the numbers, so compare the ratios.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that cannot go on fails

mod client;
mod handler;
mod hits;
mod outage;
mod overload;
mod report;

/// The measurements by name.
const ALL: [&str; 3] = ["hits", "outage", "overload"];

#[tokio::main]
async fn main() {
    let mut chosen: Vec<String> = std::env::args().skip(1).collect();
    if chosen.is_empty() {
        chosen = ALL.map(str::to_owned).to_vec();
    }
    if let Some(unknown) = chosen.iter().find(|name| !ALL.contains(&name.as_str())) {
        eprintln!("{unknown} is not a measurement: choose from {}", ALL.join(", "));
        std::process::exit(2);
    }
    let machine = report::machine();
    println!("On {machine}, which also ran Redis, Azurite and the clients.\n");
    for name in &chosen {
        match name.as_str() {
            "hits" => hits::measure().await,
            "outage" => outage::measure().await,
            _ => overload::measure().await,
        }
    }
}
