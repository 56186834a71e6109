//! `POST /v1/tasks` from 32 connections, each waiting for its durable answer, beside a route of the same server that reads
//! the same body and does nothing. Medians of three runs in turn; server and clients share the machine.

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
const RUN: Duration = Duration::from_secs(3);
const RUNS: usize = 3;
const BODY: &str = r#"{"kind":"bench.nobody","title":"One of many","input":{"source":"/srv/content","n":12345}}"#;

/// Requests a second, and the 50th and 99th percentile of the wait, in microseconds.
type Figures = (f64, u128, u128);

fn main() {
    let dir = shared::folder();
    let (tell, told) = std::sync::mpsc::channel();
    let data = dir.path().join("data");
    std::thread::spawn(move || actix::System::new().block_on(serve(data, tell)));
    let server = told.recv().unwrap();
    let (mut nothing, mut create) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        nothing.push(run(server, "/nothing"));
        create.push(run(server, "/v1/tasks"));
    }
    let (nothing, create) = (median(nothing), median(create));
    println!("{CONNECTIONS} connections, {} bytes of body", BODY.len());
    println!("{:<28} {:>12} {:>9} {:>9} {:>11}", "", "requests/s", "p50 µs", "p99 µs", "of nothing");
    for (name, figures) in [("POST /nothing", nothing), ("POST /v1/tasks, durable", create)] {
        let ratio = figures.0 / nothing.0;
        println!("{name:<28} {:>12.0} {:>9} {:>9} {ratio:>10.2}x", figures.0, figures.1, figures.2);
    }
}

async fn serve(data: std::path::PathBuf, tell: std::sync::mpsc::Sender<SocketAddr>) {
    let taskbell = Taskbell::start(Options { data: Some(data), ..Options::default() }).await.unwrap();
    let routes = taskbell.routes();
    let nothing = |_: web::Bytes| async { HttpResponse::Ok().finish() };
    let server =
        HttpServer::new(move || App::new().route("/nothing", web::post().to(nothing)).configure(routes.clone()))
            .bind("127.0.0.1:0")
            .unwrap();
    tell.send(server.addrs()[0]).unwrap();
    server.run().await.unwrap();
}

fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[RUNS / 2]
}

fn run(server: SocketAddr, path: &str) -> Figures {
    let over = Arc::new(AtomicBool::new(false));
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let began = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (over, request) = (over.clone(), request.clone());
            std::thread::spawn(move || client(server, &request, &over))
        })
        .collect();
    std::thread::sleep(RUN);
    over.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let rate = waits.len() as f64 / began.elapsed().as_secs_f64();
    waits.sort_unstable();
    (rate, waits[waits.len() / 2].as_micros(), waits[waits.len() * 99 / 100].as_micros())
}

/// One connection: the next request goes when the last one is answered.
fn client(server: SocketAddr, request: &str, over: &AtomicBool) -> Vec<Duration> {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut writer, mut line, mut body, mut waits) = (stream, String::new(), Vec::new(), Vec::new());
    while !over.load(Ordering::Relaxed) {
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
        waits.push(began.elapsed());
    }
    waits
}
