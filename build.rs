//! Generates the Rust code of the gRPC protocol from the `.proto` files in `src/wire/proto`. Without the feature
//! `eventstore` it generates nothing.

#[cfg(feature = "eventstore")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
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

#[cfg(not(feature = "eventstore"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
