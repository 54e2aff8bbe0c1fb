//! Hits of the handler, beside those of its peers and each one's constant answer.

use test_servers::Redis;

use crate::effort::Effort;
use crate::load::{Load, Requests, in_turn, rates};
use crate::machine::cores;
use crate::report::{Figure, Limit, Report, rounds};
use test_programs::program::{LONG, Program, Server, With};
use test_programs::table::Table;

pub(crate) const NAME: &str = "peers";

const CONNECTIONS: usize = 64;

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let (number, seconds) = (effort.of(5, 2), effort.of(3, 1));
    let table = Table::start().await;
    let (mut running, mut loads) = (Vec::new(), Vec::new());
    for program in Program::ALL {
        let redis = Redis::start();
        let with = With { ttl: LONG, workers: cores(), ..With::servers(&table, &redis) };
        let server = program.start(with).await;
        for path in [server.user_in_redis().await, "/api/live".to_owned()] {
            let requests = Requests::Path { port: server.port, path };
            loads.push(Load { requests, connections: CONNECTIONS, seconds });
        }
        running.push((server, redis));
    }
    let speeds = in_turn(NAME, number, &loads).await;
    let figures = Program::ALL.iter().zip(speeds.chunks(2)).map(|(program, speeds)| {
        let figure = |quantity, speeds| Figure::new(quantity, "/s", program.name(), &rates(speeds));
        let constant = figure("constant answers", &speeds[1]);
        let hits = figure("hits in Redis", &speeds[0]);
        (hits.beside_value("its constant answer", constant.median), constant)
    });
    let (hits, constant): (Vec<_>, Vec<_>) = figures.unzip();
    let title = format!(
        "{CONNECTIONS} connections, Node.js and Python with a process for each core; medians of {number} rounds of {seconds} s in turn (least and most)"
    );
    let compared = compared(&hits);
    let servers: Vec<&Server> = running.iter().map(|(server, _)| server).collect();
    let of_hits: Vec<&Load> = loads.iter().step_by(2).collect();
    let processor_time = processor_time(number, &servers, &of_hits).await;
    report.add(NAME, &title, [hits, constant, compared, processor_time].concat());
}

/// What a hit costs the program itself. The rates are those of the whole machine, which wrk and Redis use,
/// too, so that the differences between the programs are larger than those between the rates.
async fn processor_time(number: usize, servers: &[&Server], loads: &[&Load]) -> Vec<Figure> {
    let mut times = vec![Vec::new(); servers.len()];
    for _ in rounds("peers, processor time", number) {
        for ((server, load), times) in servers.iter().zip(loads).zip(&mut times) {
            let before = server.processor_time();
            let requests = load.run().await.requests;
            times.push((server.processor_time() - before) * 1e6 / requests);
        }
    }
    let figures = Program::ALL.iter().zip(&times).map(|(program, times)| {
        Figure::new("processor time of a hit", "µs", program.name(), times)
    });
    let figures: Vec<_> = figures.collect();
    let peers = figures[1..].iter().map(|figure| figure.clone().beside(&figures[0]));
    [vec![figures[0].clone()], peers.collect()].concat()
}

/// The handler's hits beside those of each peer.
fn compared(hits: &[Figure]) -> Vec<Figure> {
    let peers = Program::PEERS.iter().zip(&hits[1..]);
    let compared = peers.map(|(peer, theirs)| {
        let ours = hits[0].clone().under("beside a peer's");
        ours.beside(theirs).limit_if_any(limit(*peer))
    });
    compared.collect()
}

/// The least acceptable ratio of the handler's hits to those of a peer.
fn limit(peer: Program) -> Option<Limit> {
    match peer {
        Program::Handler => None,
        Program::Axum => Some(Limit::RatioAtLeast(0.95)),
        Program::Node => Some(Limit::RatioAtLeast(1.0)),
        Program::Python => Some(Limit::RatioAtLeast(8.0)),
    }
}
