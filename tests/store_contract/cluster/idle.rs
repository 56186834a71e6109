//! A store uses almost no CPU time while its database is unavailable. The test measures a separate process.

use std::process::Command;

use super::*;

const CHILD: &str = "TASKBELL_TEST_IDLE";
/// The largest share of one CPU that the store may use.
const CPU_SHARE: f64 = 0.05;

/// How long the database is unavailable; 60 s with `TASKBELL_FULL`.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("TASKBELL_FULL").is_some() { 60 } else { 4 })
}

#[test]
fn a_store_that_is_down_costs_no_cpu_and_then_resumes_with_all_that_was_acknowledged() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", "store_contract::cluster::idle::outage_of_a_process"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("CPU"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn outage_of_a_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let Fixture { database, server } = Fixture::start().await;
    let addr = server.addr();
    let store = ready(connect(addr, "taskbell")).await;
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    server.stop().await;
    wait_until_unhealthy(&store).await;
    let before = cpu_seconds();
    let recovered = tokio::time::timeout(outage(), store.wait_for_health(true)).await;
    assert!(recovered.is_err(), "nothing serves it");
    let share = (cpu_seconds() - before) / outage().as_secs_f64();
    println!("CPU while the store was down: {:.2} % of one", share * 100.0);
    assert!(share < CPU_SHARE, "{share}");
    let head = store.head();
    let server = database.serve(addr).await.unwrap();
    let resumed = tokio::time::timeout(Duration::from_secs(5), ready(store.clone())).await;
    assert!(resumed.is_ok(), "it resumes within 5 s");
    assert_eq!(store.head(), head);
    assert_eq!(store.append(next(&task, 0)).await, Ok(Revision(1)));
    server.stop().await;
}

/// The CPU time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The process name may contain spaces. After it, the 12th and 13th field are the user and system time in hundredths
    // of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
