//! A server of key sets on a loopback address, which counts its requests.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::support::TEST_TIMEOUT;

/// The server. Its requests end when the value is dropped.
pub struct KeyServer {
    pub url: String,
    requests: watch::Receiver<usize>,
    response: Arc<Mutex<String>>,
    /// A response needs a permit.
    permits: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

/// A response with the status 200 and this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl KeyServer {
    pub async fn start(set: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?v=1", listener.local_addr().unwrap());
        let (counter, requests) = watch::channel(0);
        let (response, permits) = (Arc::new(Mutex::new(ok(&set.to_string()))), Arc::new(Semaphore::new(1_000_000)));
        let (of_task, permits_of_task) = (response.clone(), permits.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, of_task.clone(), permits_of_task.clone(), counter.clone()));
            }
        });
        Self { url, requests, response, permits, task }
    }

    /// The complete response to each further request.
    pub fn respond(&self, response: String) {
        *self.response.lock().unwrap() = response;
    }

    /// Requests wait until `release` is called.
    pub fn hold(&self) {
        self.permits.forget_permits(usize::MAX);
    }

    pub fn release(&self) {
        self.permits.add_permits(1_000_000);
    }

    pub fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Waits until so many requests have arrived.
    pub async fn wait_for(&self, requests: usize) {
        let mut counted = self.requests.clone();
        let reached = counted.wait_for(|counted| *counted >= requests);
        tokio::time::timeout(TEST_TIMEOUT, reached).await.expect("a request in time").unwrap();
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    response: Arc<Mutex<String>>,
    permits: Arc<Semaphore>,
    counter: watch::Sender<usize>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.extend(byte);
    }
    assert!(head.starts_with(b"GET /keys?v=1 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
    counter.send_modify(|count| *count += 1);
    permits.acquire().await.unwrap().forget();
    let response = response.lock().unwrap().clone();
    let _ = stream.write_all(response.as_bytes()).await;
}
