//! Compiles the protocol text of `src/wire/proto`. Without the feature `eventstore` there is nothing to do.

#[cfg(feature = "eventstore")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/wire/proto");
    let files = ["streams.proto", "gossip.proto", "serverfeatures.proto"];
    let descriptors = protox::compile(files, ["src/wire/proto"])?;
    let builder = tonic_build::configure().build_client(false).bytes(["."]).include_file("proto.rs");
    let mut config = prost_build::Config::new();
    // The detail of a refused batch append is named by the type of its message.
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    builder.compile_fds_with_config(config, descriptors)?;
    Ok(())
}

#[cfg(not(feature = "eventstore"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
