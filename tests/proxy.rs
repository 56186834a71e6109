//! A TCP proxy between a client and a server that tests disturb: it cuts connections, stalls, delays, repeats everything on
//! a second connection, and changes its target.

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
    /// It hands them on.
    Pass,
    /// It hands them on so much later, in both directions.
    Delay(Duration),
    /// It accepts connections and hands nothing on until the mode changes.
    BlackHole,
    /// It closes each new connection at once.
    Refuse,
    /// It sends the bytes of a new connection's client over a second connection too, and drops the answers of that one.
    Duplicate,
}

struct State {
    target: watch::Sender<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// Changes when all connections are to be cut.
    cuts: watch::Sender<u64>,
    /// How many connections were accepted.
    accepted: watch::Sender<u64>,
}

/// It ends when it is dropped.
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
            accepted: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { addr, state, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set(&self, mode: Mode) {
        self.state.mode.send_replace(mode);
    }

    /// Cuts all connections, with whatever is under way on them.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Leads new connections to another server, and cuts the present ones.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.target.send_replace(target);
        self.cut();
    }

    /// How many connections were accepted up to now; the receiver learns of each further one.
    pub fn accepted(&self) -> watch::Receiver<u64> {
        self.state.accepted.subscribe()
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
        state.accepted.send_modify(|accepted| *accepted += 1);
        if *state.mode.borrow() != Mode::Refuse {
            tokio::spawn(connect(client, Arc::clone(&state)));
        }
    }
}

async fn connect(client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    cuts.mark_unchanged();
    let cut = async move { drop(cuts.changed().await) };
    tokio::select! {
        () = hand_on(client, &state) => {}
        () = cut => {}
    }
}

async fn hand_on(client: TcpStream, state: &State) {
    let target = *state.target.borrow();
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut to_servers = vec![to_server];
    let mut ignored = None;
    if *state.mode.borrow() == Mode::Duplicate
        && let Ok(second) = TcpStream::connect(target).await
    {
        let (from_second, to_second) = second.into_split();
        to_servers.push(to_second);
        ignored = Some(from_second);
    }
    let ignore = async {
        match ignored {
            Some(from_second) => pump(from_second, &mut [], state).await,
            None => std::future::pending().await,
        }
    };
    let mut to_client = [to_client];
    tokio::select! {
        () = pump(from_client, &mut to_servers, state) => {}
        () = pump(from_server, &mut to_client, state) => {}
        () = ignore => {}
    }
}

/// Hands on what arrives, until either side closes.
async fn pump(mut from: OwnedReadHalf, to: &mut [OwnedWriteHalf], state: &State) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        // The database's client waits for each acknowledgement, which Linux would delay by 40 ms.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(from.as_ref(), true);
        let passes = |mode: &Mode| *mode != Mode::BlackHole;
        let Ok(mode) = state.mode.subscribe().wait_for(passes).await.map(|mode| *mode) else { return };
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
