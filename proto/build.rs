//! Compiles the contracts with a pure Rust compiler, so that a build needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["src/cri.proto"], ["src"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo:rerun-if-changed=src");
    Ok(())
}
