//! icecast2 as it comes out of the package, relaying the same bytes: framed as for MMS, so that viewers read them alike.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use mmsproxy::wire::mmsp::data::encode_header;
use mmsproxy::wire::mmsp::ids::{Incarnation, LocationId};

use crate::broadcast::Broadcast;
use crate::common::process::{Process, free_address};
use crate::common::shape::{PREROLL, now};
use crate::load::Protocol;
use crate::measure::Served;
use crate::options::{Measurement, SourceOptions};

/// Starts the server and its source.
pub fn serve(measurement: &Measurement, cores: Option<&str>, other_cores: Option<&str>) -> anyhow::Result<Served> {
    let address = free_address()?;
    let files = tempfile::tempdir()?;
    let path = files.path().join("icecast.xml");
    std::fs::write(&path, config(measurement, address, files.path()))?;
    // It may not run as root; whoever it becomes then writes its logs there.
    std::fs::set_permissions(files.path(), Permissions::from_mode(0o777))?;
    let arguments = ["-c".into(), path.to_string_lossy().into_owned()];
    let mut server = Process::start("icecast2", &arguments, cores).context("is icecast2 installed?")?;
    server.await_listener(address)?;
    let mut arguments = vec!["source".into(), "--server".into(), address.to_string()];
    arguments.extend(measurement.shape.arguments());
    let mut source = Process::start_role(&arguments, other_cores)?;
    source.line()?;
    Ok(Served { server, address, protocol: Protocol::Http, _source: Some(source), _files: Some(files) })
}

/// Feeds the broadcast to icecast2 until that ends; prints a line once there is enough for a burst.
pub fn feed(options: &SourceOptions) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(options.server)?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"PUT /live HTTP/1.0\r\nAuthorization: Basic c291cmNlOnNvdXJjZQ==\r\n\
          Content-Type: application/octet-stream\r\nIce-Public: 0\r\n\r\n",
    )?;
    let mut reply = [0; 1024];
    let read = stream.read(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply[..read]).into_owned();
    ensure!(reply.starts_with("HTTP/1.0 200"), "icecast2 refused its source: {reply}");
    let incarnation = Incarnation::from_request(4).context("no incarnation")?;
    let mut broadcast = Broadcast::begun(options.shape, 2 * PREROLL);
    let mut has_told = false;
    for number in 0.. {
        let packet = loop {
            match broadcast.next_packet(now()) {
                Some(packet) => break packet,
                None => {
                    if !std::mem::replace(&mut has_told, true) {
                        println!("feeding");
                    }
                    thread::sleep(Duration::from_nanos(broadcast.due().saturating_sub(now())));
                }
            }
        };
        let header = encode_header(LocationId(number), incarnation, number as u8, packet.len());
        stream.write_all(&[&header[..], &packet].concat())?;
    }
    Ok(())
}

/// The defaults of the package, but for limits, addresses and a burst as long as the others'.
fn config(measurement: &Measurement, address: SocketAddr, logs: &Path) -> String {
    let clients = measurement.viewers + 200;
    let burst = measurement.shape.rate / 8 * PREROLL.as_secs();
    let queue = (4 * burst).max(524_288);
    format!(
        "<icecast>
  <location>loopback</location><admin>root@localhost</admin><hostname>127.0.0.1</hostname>
  <limits>
    <clients>{clients}</clients><sources>2</sources><queue-size>{queue}</queue-size>
    <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>10</source-timeout>
    <burst-on-connect>1</burst-on-connect><burst-size>{burst}</burst-size>
  </limits>
  <authentication>
    <source-password>source</source-password><relay-password>relay</relay-password>
    <admin-user>admin</admin-user><admin-password>admin</admin-password>
  </authentication>
  <listen-socket><port>{port}</port><bind-address>{ip}</bind-address></listen-socket>
  <fileserve>1</fileserve>
  <paths>
    <basedir>/usr/share/icecast2</basedir><logdir>{logs}</logdir>
    <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>
    <changeowner><user>nobody</user><group>nogroup</group></changeowner>
  </security>
</icecast>
",
        port = address.port(),
        ip = address.ip(),
        logs = logs.display(),
    )
}
