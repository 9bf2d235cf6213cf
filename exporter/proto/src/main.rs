//! Writes `exporter/src/onnx_proto.rs` from ONNX's own `onnx.proto`, without protoc.
//!
//! ```sh
//! cargo run --manifest-path exporter/proto/Cargo.toml               # writes
//! cargo run --manifest-path exporter/proto/Cargo.toml -- --check    # fails if what is there differs
//! ```

use std::{error::Error, fs, path::Path};

const HEADER: &str = "\
// Written by exporter/proto from ONNX 1.23.2's onnx.proto; not to be edited. Copyright (c) ONNX Project Contributors,
// Apache-2.0.
";

fn main() -> Result<(), Box<dyn Error>> {
    // As cargo says it now: a program that another checkout has built knows the folder of that.
    let here = std::env::var("CARGO_MANIFEST_DIR")?;
    let here = Path::new(&here);
    let files = protox::compile([here.join("onnx.proto")], [here])?;
    let folder = std::env::temp_dir().join(format!("exporter-proto-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    // The comments are in onnx.proto.
    prost_build::Config::new().disable_comments(["."]).out_dir(&folder).compile_fds(files)?;
    let code = fs::read_to_string(folder.join("onnx.rs"))?;
    fs::remove_dir_all(&folder)?;
    let (path, code) = (here.join("../src/onnx_proto.rs"), format!("{HEADER}{code}"));
    if std::env::args().any(|argument| argument == "--check") {
        let same = fs::read_to_string(&path)? == code;
        return if same { Ok(()) } else { Err(format!("{} is not what onnx.proto makes", path.display()).into()) };
    }
    Ok(fs::write(path, code)?)
}
