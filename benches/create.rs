//! Measures `POST /v1/tasks` over 32 connections. Each connection waits for its response, which is sent when the task
//! is durable. The reference is a route of the same server that reads the same body and does nothing. Three runs of
//! both alternate, and each figure is the median. The server and the clients run on the same machine.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

mod shared;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use taskbell::{Options, Taskbell};

const CONNECTIONS: usize = 32;
/// How long one run takes.
const RUN_TIME: Duration = Duration::from_secs(3);
const RUNS: usize = 3;
const BODY: &str = r#"{"kind":"bench.nobody","title":"One of many","input":{"source":"/srv/content","n":12345}}"#;

/// Requests per second, and the 50th and the 99th percentile of the latency in microseconds.
type Figures = (f64, u128, u128);

fn main() {
    let dir = shared::temporary_directory();
    let (address_sender, address_receiver) = std::sync::mpsc::channel();
    let data = dir.path().join("data");
    std::thread::spawn(move || actix::System::new().block_on(serve(data, address_sender)));
    let server = address_receiver.recv().unwrap();
    let (mut nothing, mut create) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        nothing.push(run(server, "/nothing"));
        create.push(run(server, "/v1/tasks"));
    }
    let (nothing, create) = (median(nothing), median(create));
    println!("{CONNECTIONS} connections, {} bytes of body", BODY.len());
    println!("{:<28} {:>12} {:>9} {:>9} {:>20}", "", "requests/s", "p50 µs", "p99 µs", "ratio to empty route");
    for (name, figures) in [("POST /nothing", nothing), ("POST /v1/tasks, durable", create)] {
        let ratio = figures.0 / nothing.0;
        println!("{name:<28} {:>12.0} {:>9} {:>9} {ratio:>19.2}x", figures.0, figures.1, figures.2);
    }
}

/// Runs the server, and sends its address when it listens.
async fn serve(data: std::path::PathBuf, address_sender: std::sync::mpsc::Sender<SocketAddr>) {
    let taskbell = Taskbell::start(Options { data: Some(data), ..Options::default() }).await.unwrap();
    let routes = taskbell.routes();
    let nothing = |_: web::Bytes| async { HttpResponse::Ok().finish() };
    let server =
        HttpServer::new(move || App::new().route("/nothing", web::post().to(nothing)).configure(routes.clone()))
            .bind("127.0.0.1:0")
            .unwrap();
    address_sender.send(server.addrs()[0]).unwrap();
    server.run().await.unwrap();
}

/// The run with the median rate.
fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2]
}

/// Runs all connections for [`RUN_TIME`] and computes their figures.
fn run(server: SocketAddr, path: &str) -> Figures {
    let is_over = Arc::new(AtomicBool::new(false));
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let began = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (is_over, request) = (is_over.clone(), request.clone());
            std::thread::spawn(move || send_requests(server, &request, &is_over))
        })
        .collect();
    std::thread::sleep(RUN_TIME);
    is_over.store(true, Ordering::Relaxed);
    let mut latencies: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    (rate, latencies[latencies.len() / 2].as_micros(), latencies[latencies.len() * 99 / 100].as_micros())
}

/// Sends requests over one connection, each after the response to the one before, until `is_over`. Returns the latency
/// of each request.
fn send_requests(server: SocketAddr, request: &str, is_over: &AtomicBool) -> Vec<Duration> {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut writer, mut line, mut body, mut latencies) = (stream, String::new(), Vec::new(), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        writer.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 20"), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).unwrap();
        latencies.push(began.elapsed());
    }
    latencies
}
