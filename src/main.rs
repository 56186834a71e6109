//! The program `taskbell`: the library's server and worker behind a command line.

mod cli;

/// The server makes many small allocations, and another thread frees them. With the system's allocator, this took half of
/// the time for accepting a task.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
