//! Workers on another machine than the server, with a token over TLS. The machines are two network namespaces of the test.
//!
//! The test for the clients in Python and TypeScript needs their build, so it is ignored here; `.ci/test` runs it after them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use taskbell::http::identity::bearer::{BearerKind, BearerText};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::access::Role;
use taskbell::task::token::{TokenCreated, TokenEvent};
use tempfile::TempDir;

use super::flags;
use crate::support::{certificate_file, signal, taskbell};

/// The address of the server. The certificates of the tests are valid for it.
const SERVER: &str = "10.203.7.1";
const WORKER: &str = "10.203.7.2";

/// Two network namespaces with a cable between them. Nothing outside of them is changed.
struct Machines {
    server: String,
    worker: String,
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip can't be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {text}", args.join(" "))) }
}

impl Machines {
    /// `None`, and a line that says why, where this user can't make namespaces.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let machines = Self { server: format!("tbs{number}"), worker: format!("tbw{number}") };
        if let Err(why) = ip(&["netns", "add", &machines.server]).and_then(|()| ip(&["netns", "add", &machines.worker]))
        {
            eprintln!("SKIPPED: a network namespace needs root and the program ip (package iproute2): {why}");
            return None;
        }
        machines.connect().unwrap_or_else(|why| panic!("{why}"));
        Some(machines)
    }

    fn connect(&self) -> Result<(), String> {
        ip(&[
            "-n",
            &self.server,
            "link",
            "add",
            "cable",
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            &self.worker,
        ])?;
        for (machine, address) in [(&self.server, SERVER), (&self.worker, WORKER)] {
            ip(&["-n", machine, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", machine, "link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    /// A command that runs this one on the machine.
    fn on(machine: &str, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", machine]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in [&self.server, &self.worker] {
            let _ = ip(&["netns", "delete", machine]);
        }
    }
}

/// Records a token in the log of this folder, and returns its text.
async fn create_token(store: &EventStore, subject: &str, role: Role, kinds: Option<&[&str]>) -> String {
    let id = new_id();
    let text = BearerText::generate(BearerKind::Token, id).unwrap();
    let kinds = kinds.map(|kinds| kinds.iter().map(ToString::to_string).collect());
    let created = TokenCreated { subject: subject.into(), role, kinds, hash: text.hash(), expires_at: None };
    let meta =
        Meta { actor: "test".into(), via: Via::Cli, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = NewEvent { id: new_id(), time: now(), meta, event: TokenEvent::TokenCreated(created).into() };
    let append = Append { stream: StreamName::token(id), expected: Expected::NoStream, events: vec![event] };
    store.append(append).await.unwrap();
    text.reveal().to_owned()
}

/// A server on one machine, and what clients on the other one need.
struct Installation {
    machines: Machines,
    folder: TempDir,
    server: Child,
    url: String,
    user: String,
    worker: String,
}

impl Installation {
    async fn start(kinds: &[&str]) -> Option<Self> {
        let machines = Machines::new()?;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (user, worker) = {
            let store = EventStore::open(&data).unwrap();
            let user = create_token(&store, "anna", Role::User, None).await;
            (user, create_token(&store, "wendy", Role::Worker, Some(kinds)).await)
        };
        let mut command = taskbell();
        command.args(["serve", "--auth", "required", "--listen", &format!("{SERVER}:0"), "--data"]).arg(&data);
        let mut command = Machines::on(&machines.server, command.args(flags("first")));
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let mut server = command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = || std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}{}", said())).trim().to_owned();
        assert!(url.starts_with(&format!("https://{SERVER}:")), "{url}");
        Some(Self { machines, folder, server, url, user, worker })
    }

    /// A command on the machine of the worker, with this token.
    fn client(&self, mut command: Command, token: Option<&str>) -> Command {
        command.env("TASKBELL_SERVER", &self.url).env("TASKBELL_CA_FILE", certificate_file("ca.pem"));
        if let Some(token) = token {
            command.env("TASKBELL_TOKEN", token);
        }
        Machines::on(&self.machines.worker, &command)
    }

    /// Runs the command line on the machine of the worker.
    fn run(&self, args: &[&str], token: Option<&str>) -> Output {
        let mut command = taskbell();
        command.args(args);
        self.client(command, token).output().unwrap()
    }

    /// Submits a task as a user, lets this worker do it, and returns the task at its end.
    fn let_work(&self, kind: &str, worker: Command) -> Value {
        let mut worker = self.client(worker, Some(&self.worker)).stderr(Stdio::null()).spawn().unwrap();
        let input = self.folder.path().join("input.json");
        std::fs::write(&input, "21").unwrap();
        let submitted =
            self.run(&["submit", kind, "--input", input.to_str().unwrap(), "--wait", "--json"], Some(&self.user));
        // `ip netns exec` becomes the program, so that the signal reaches it.
        signal(worker.id(), "TERM");
        assert!(worker.wait().unwrap().success());
        assert_eq!(submitted.status.code(), Some(0), "{submitted:?}\n{}", self.stderr());
        let lines = String::from_utf8(submitted.stdout).unwrap();
        let task: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let shown = self.run(&["show", task["id"].as_str().unwrap(), "--json"], Some(&self.user));
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {shown:?}"))
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn assert_done(task: &Value) {
    assert_eq!((&task["status"], &task["result"], &task["owner"]), (&"succeeded".into(), &42.into(), &"anna".into()));
}

#[tokio::test]
async fn a_worker_on_another_machine_works_with_a_token_over_tls() {
    let Some(installation) = Installation::start(&["double"]).await else { return };
    let mut worker = taskbell();
    worker.args(["work", "--kind", "double", "--", "sh", "-c", "read n; echo \"::result $((n * 2))\""]);
    assert_done(&installation.let_work("double", worker));
    for wrong in [None, Some("tb_0"), Some(&*installation.user.replace("tb_", "tb_0"))] {
        let refused = installation.run(&["list"], wrong);
        assert_eq!(refused.status.code(), Some(4), "{wrong:?}: {refused:?}");
    }
    assert!(!installation.stderr().contains(&installation.user), "the token is in a log line");
}

#[tokio::test]
#[ignore = "needs the build of clients/typescript; .ci/test runs it"]
async fn workers_in_python_and_typescript_on_another_machine_work_with_a_token_over_tls() {
    const PYTHON: &str = "from taskbell import Done, Worker\n\
                          Worker({'double': lambda ctx: Done(result=ctx.input * 2)}, wait_s=0.5, grace_s=2).run()";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(installation) = Installation::start(&["double"]).await else { return };
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).env("PYTHONPATH", root.join("clients/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    assert_done(&installation.let_work("double", python));
    let library = root.join("clients/typescript/dist/src/index.js");
    assert!(library.exists(), "build clients/typescript first: npm ci && npm run build");
    let script = format!(
        "import {{ Worker }} from {:?};\n\
         await new Worker({{ double: async (ctx) => ({{ result: ctx.input * 2 }}) }}, {{ waitMs: 500, graceMs: 2000 }}).run();",
        library.display().to_string()
    );
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-e", &script]);
    assert_done(&installation.let_work("double", node));
}
