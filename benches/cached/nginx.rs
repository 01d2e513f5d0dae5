//! nginx as it comes out of the package, with the file of Data packets as a static file, so that viewers read it as they read
//! what comes over MMS.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use crate::common::process::{Process, free_address};
use crate::content::{Content, framed_rate};
use crate::options::Measurement;

/// Starts it in the foreground, as one process: what `/proc` says of that is all there is.
pub fn serve(
    measurement: &Measurement,
    content: &Content,
    files: &Path,
    cores: Option<&str>,
) -> anyhow::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let path = files.join("nginx.conf");
    std::fs::write(&path, config(measurement, content, files, address))?;
    let arguments = ["-e", "stderr", "-p", &files.to_string_lossy(), "-c", &path.to_string_lossy()].map(String::from);
    let mut server = Process::start(&measurement.nginx, &arguments, cores)
        .context("is nginx installed? (Debian: nginx-light; or name others with --servers)")?;
    server.await_listener(address)?;
    Ok((server, address))
}

/// The defaults, but for limits, addresses, and sendfile. No tcp_nopush: on loopback a segment is 64 KiB, so the kernel would hold
/// back each second's worth for 200 ms and send it out of its own timer, at the cost of nobody.
fn config(measurement: &Measurement, content: &Content, files: &Path, address: SocketAddr) -> String {
    let limit = match measurement.takes_all() {
        true => String::new(),
        false => format!("limit_rate {};", framed_rate(content.shape)),
    };
    let connections = measurement.viewers() + 100;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", files.display()))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {files}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
{temporary}  access_log off;
  default_type application/octet-stream;
  sendfile on;
  server {{
    listen {address} backlog=4096;
    root {root};
    location / {{ {limit} }}
  }}
}}
",
        files = files.display(),
        root = content.dir.display(),
    )
}
