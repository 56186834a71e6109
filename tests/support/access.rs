//! Servers with and without TLS and authentication, and how hostile clients reach both.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use socket2::{Domain, Socket, Type};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::{Server, SocketStream, certificate_file, taskbell, trust};

/// How long a client waits for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How clients reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By plain HTTP, without credentials.
    Open,
    /// By TLS, with a token.
    Secured,
}

impl Access {
    /// `Secured` with `TASKBELL_SECURE=1`, otherwise `Open`.
    pub fn of_environment() -> Self {
        if std::env::var_os("TASKBELL_SECURE").is_some() { Self::Secured } else { Self::Open }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Secured => "secured",
        }
    }
}

/// The tokens of a secured server, both of admins.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Of the subject `root`: what the helpers of the tests send.
    pub own: String,
    /// Of the subject `mallory`: what hostile clients send.
    pub hostile: String,
}

impl Server {
    /// A server with this access and additional flags. A secured one requires authentication, has a certificate, and limits no
    /// rates unless a flag says so, because hostile clients send as much as they can.
    pub fn with_access<A: IntoIterator<Item: Into<OsString>>>(access: Access, args: A) -> Self {
        if access == Access::Open {
            return Self::with(args);
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = dir.path().join("data");
        let token = |subject: &str| {
            let mut command = taskbell();
            command.args(["token", "create", "--role", "admin", "--subject", subject, "--data"]).arg(&data);
            let output = command.env("USER", "ada").output().expect("the command runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("a token").trim().to_owned()
        };
        let tokens = Tokens { own: token("root"), hostile: token("mallory") };
        let mut all: Vec<OsString> = vec!["--data".into(), data.into(), "--auth".into(), "required".into()];
        all.extend(["--tls-cert".into(), certificate_file("first.pem").into()]);
        all.extend(["--tls-key".into(), certificate_file("first.key").into()]);
        all.extend(args.into_iter().map(Into::into));
        for rate in ["--max-requests-per-s", "--max-failed-authentications-per-s"] {
            if !all.iter().any(|flag| flag == rate) {
                all.extend([rate.into(), "0".into()]);
            }
        }
        Self::in_folder_with(dir, all, Some(tokens))
    }

    /// The tokens of a secured server.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Whether clients reach the server by TLS.
    pub fn is_secured(&self) -> bool {
        self.url().starts_with("https:")
    }

    /// The header line with the helpers' own token; empty if the server needs none.
    pub fn authorization(&self) -> String {
        self.tokens.as_ref().map_or_else(String::new, |tokens| bearer_line(&tokens.own))
    }

    /// The header lines of a fuzzed request: often the right token, otherwise a broken credential or none. Nothing is drawn for an
    /// open server.
    pub fn fuzzed_authorization(&self, random: &mut StdRng) -> String {
        match &self.tokens {
            None => String::new(),
            Some(tokens) if random.random_ratio(1, 2) => bearer_line(&tokens.hostile),
            Some(_) if random.random_ratio(1, 3) => String::new(),
            Some(tokens) => broken_credential(random, &tokens.hostile),
        }
    }

    /// A raw connection from this address, like `127.0.0.2`; over TLS after the handshake.
    pub fn connect_raw(&self, from: &str) -> io::Result<RawStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&format!("{from}:0").parse::<SocketAddr>().expect("an address").into())?;
        socket.connect(&self.address().parse::<SocketAddr>().expect("an address").into())?;
        let tcp = TcpStream::from(socket);
        tcp.set_nodelay(true)?;
        if !self.is_secured() {
            return Ok(RawStream::Plain(tcp));
        }
        tcp.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        tcp.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let mut stream = StreamOwned::new(tls_client(), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(RawStream::Tls(Box::new(stream)))
    }
}

impl SocketStream {
    /// Shakes hands over this connection if the URL says so.
    pub async fn over(stream: tokio::net::TcpStream, url: &str) -> io::Result<Self> {
        if !url.starts_with("https") {
            return Ok(Self::Plain(stream));
        }
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Self::Tls(Box::new(TlsConnector::from(Arc::new(trust())).connect(name, stream).await?)))
    }
}

fn bearer_line(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Header lines with a credential that is not the one of the token, and lines around it.
fn broken_credential(random: &mut StdRng, token: &str) -> String {
    const LINES: [&str; 16] = [
        "Authorization: Bearer CUT",
        "Authorization: Bearer CHANGED",
        "Authorization: Bearer CHANGED",
        "Authorization: Bearer",
        "Authorization:",
        "Authorization: Basic cm9vdDpyb290",
        "Authorization: Digest TOKEN",
        "Authorization: Bearer TOKEN TOKEN",
        "Authorization: Bearer TOKEN\r\nAuthorization: Bearer CHANGED",
        "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "Authorization: Bearer tbs_CUT",
        "Authorization: Bearer \u{e9}",
        "Authorization: Bearer LONG",
        "Cookie: __Host-taskbell=TOKEN",
        "Cookie: __Host-taskbell=tbs_CUT; taskbell=LONG",
        "X-Forwarded-User: root\r\nForwarded: for=127.0.0.1",
    ];
    let cut = &token[..random.random_range(0..token.len())];
    let mut changed = token.as_bytes().to_vec();
    let at = random.random_range(0..changed.len());
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    let line = LINES.choose(random).expect("a line").replace("TOKEN", token).replace("CUT", cut);
    let line = line.replace("LONG", &"x".repeat(random.random_range(1..9_000)));
    format!("{}\r\n", line.replace("CHANGED", &String::from_utf8(changed).expect("ASCII")))
}

fn tls_client() -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(trust()), name).expect("a client")
}

/// The first bytes of a client that begins a TLS handshake.
pub fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    tls_client().write_tls(&mut bytes).expect("a buffer takes all");
    bytes
}

/// A connection for bytes that no correct client sends.
pub enum RawStream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RawStream {
    /// The socket, for its timeouts.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for RawStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for RawStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[test]
fn a_broken_credential_is_never_only_the_right_one() {
    let token = format!("tb_{}_{}", "0".repeat(32), "a".repeat(64));
    for seed in 0..500 {
        let lines = broken_credential(&mut StdRng::seed_from_u64(seed), &token);
        assert!(lines.ends_with("\r\n") && lines != bearer_line(&token), "{lines}");
    }
}

#[tokio::test]
async fn a_secured_server_takes_the_right_token_over_tls_and_nothing_else() {
    let server = Server::with_access(Access::Secured, Vec::<OsString>::new());
    assert_eq!(server.get("/v1/session").await.body["subject"], "root");
    let ask = |authorization: &str| {
        let mut client = server.connect_raw("127.0.0.1").unwrap();
        write!(client, "GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    assert_eq!((&*ask(&server.authorization()), &*ask("")), ("200", "401"));
    let plain = Server::with_access(Access::Open, Vec::<OsString>::new());
    assert!(!plain.is_secured() && plain.authorization().is_empty());
}
