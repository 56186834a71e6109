//! A TCP proxy with which tests disturb the connections between a client and a server. It can cut, stall or delay
//! connections, send everything a second time on another connection, and change its target.

#![allow(dead_code)] // each module uses its part

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with the bytes of all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It forwards them.
    Pass,
    /// It forwards them after this delay, in both directions.
    Delay(Duration),
    /// It accepts connections, but forwards nothing until the mode changes.
    BlackHole,
    /// It closes each new connection at once.
    Refuse,
    /// It sends the bytes of each new client also on a second connection to the server, and drops the responses on that
    /// one.
    Duplicate,
}

struct State {
    target: watch::Sender<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// A counter. When it changes, all connections are cut.
    cuts: watch::Sender<u64>,
    /// The number of connections accepted so far.
    accepted_count: watch::Sender<u64>,
}

/// A proxy. It stops and cuts all connections when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: watch::Sender::new(target),
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            accepted_count: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { addr, state, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the mode of all connections.
    pub fn set_mode(&self, mode: Mode) {
        self.state.mode.send_replace(mode);
    }

    /// Cuts all connections. Bytes that are not forwarded yet are lost.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forwards new connections to another server, and cuts the present connections.
    pub fn set_target(&self, target: SocketAddr) {
        self.state.target.send_replace(target);
        self.cut();
    }

    /// A receiver of the number of connections accepted so far.
    pub fn accepted_count(&self) -> watch::Receiver<u64> {
        self.state.accepted_count.subscribe()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        state.accepted_count.send_modify(|accepted| *accepted += 1);
        if *state.mode.borrow() != Mode::Refuse {
            tokio::spawn(run_connection(client, Arc::clone(&state)));
        }
    }
}

/// Forwards bytes between the client and the server until either closes or the connection is cut.
async fn run_connection(client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    cuts.mark_unchanged();
    let cut = async move { drop(cuts.changed().await) };
    tokio::select! {
        () = forward(client, &state) => {}
        () = cut => {}
    }
}

async fn forward(client: TcpStream, state: &State) {
    let target = *state.target.borrow();
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut to_servers = vec![to_server];
    let mut ignored_responses = None;
    if *state.mode.borrow() == Mode::Duplicate
        && let Ok(second) = TcpStream::connect(target).await
    {
        let (from_second, to_second) = second.into_split();
        to_servers.push(to_second);
        ignored_responses = Some(from_second);
    }
    let ignore = async {
        match ignored_responses {
            Some(from_second) => copy_bytes(from_second, &mut [], state).await,
            None => std::future::pending().await,
        }
    };
    let mut to_client = [to_client];
    tokio::select! {
        () = copy_bytes(from_client, &mut to_servers, state) => {}
        () = copy_bytes(from_server, &mut to_client, state) => {}
        () = ignore => {}
    }
}

/// Forwards the bytes that arrive, until either side closes.
async fn copy_bytes(mut from: OwnedReadHalf, to: &mut [OwnedWriteHalf], state: &State) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        // The database's client waits for each acknowledgement, which Linux would delay by 40 ms.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(from.as_ref(), true);
        let forwards = |mode: &Mode| *mode != Mode::BlackHole;
        let Ok(mode) = state.mode.subscribe().wait_for(forwards).await.map(|mode| *mode) else { return };
        if let Mode::Delay(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        for to in &mut *to {
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
}
