//! Parse, run, exit code: nothing else.
fn main() {
    let config = taskbell::config::Config::load(Default::default(), None).unwrap();
    taskbell::app::run(config).unwrap();
}
