//! The program `taskbell`: the library's server and worker behind a command line.

mod cli;

/// Half of the cost of an accepted task was the system's allocator: many small allocations, freed by another thread than
/// the one that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
