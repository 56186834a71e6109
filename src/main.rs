//! Parse, run, exit code: nothing else.

/// Half of the cost of an accepted task was the system's allocator: many small pieces, given back by another thread than
/// the one that took them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    taskbell::cli::main()
}
