//! Computes the fingerprint of the code that makes the views. With the feature `eventstore`, it also generates the Rust code of the
//! gRPC protocol from the `.proto` files in `src/wire/proto`.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The code that decides what the views contain. A snapshot of the views is of no use to a program with other code.
const VIEWS_CODE: [&str; 6] = [
    "src/views",
    "src/task",
    "src/store/codec.rs",
    "src/store/event.rs",
    "src/store/recorded.rs",
    "src/store/upcast.rs",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for path in VIEWS_CODE {
        println!("cargo::rerun-if-changed={path}");
        collect_files(Path::new(path), &mut files)?;
    }
    files.sort_unstable();
    println!("cargo::rustc-env=TASKBELL_VIEWS_FINGERPRINT={:016x}", fingerprint(&files)?);
    #[cfg(feature = "eventstore")]
    generate_protocol()?;
    Ok(())
}

fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect_files(&entry?.path(), files)?;
    }
    Ok(())
}

/// FNV-1a of the names and the contents.
fn fingerprint(files: &[PathBuf]) -> io::Result<u64> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for file in files {
        for byte in file.to_string_lossy().bytes().chain(fs::read(file)?) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

#[cfg(feature = "eventstore")]
fn generate_protocol() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/wire/proto");
    let files = ["streams.proto", "gossip.proto", "serverfeatures.proto"];
    let descriptors = protox::compile(files, ["src/wire/proto"])?;
    let builder = tonic_build::configure().build_client(false).bytes(["."]).include_file("proto.rs");
    let mut config = prost_build::Config::new();
    // Each generated message knows its type URL (`type.googleapis.com/…`). The response to a refused batch append needs it:
    // it carries the reason as a `google.protobuf.Any`.
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    builder.compile_fds_with_config(config, descriptors)?;
    Ok(())
}
