use std::{
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::PathBuf,
};

use anyhow::{Context, Result};
use axum_server::Handle;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{DataArgs, print};
use crate::{
    limits::Limits,
    server::{serve, stop},
    tls::Identity,
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
When it first starts, the hub makes itself a certificate for the names that it is given; clients need a copy of \
FOLDER/tls/certificate.pem. For other names, delete FOLDER/tls, and give clients the new one. With \
--certificate and --key it uses another one, and with --plain none, behind a proxy that has one.

Ctrl-C and SIGTERM stop it after the requests at hand. Whatever it has receipted is on its disk.

Examples:
  flywheel-hub serve --data hub --name hub.local --name 192.168.1.20
  flywheel-hub serve --data hub --certificate cert.pem --key key.pem --listen 0.0.0.0:443
  flywheel-hub serve --data hub --plain --listen 127.0.0.1:8080")]
pub struct ServeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Address for /metrics, without TLS and for whoever reaches it; none: they are not served
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Host name or address by which clients reach the hub, for its own certificate
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1"])]
    names: Vec<String>,
    /// Certificate to use in place of the hub's own
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Without TLS
    #[arg(long, conflicts_with_all = ["certificate", "key"])]
    plain: bool,
    /// Mebibytes of a segment, at most
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    segment_mebibytes: u64,
    /// Mebibytes of segments that a device may send in 24 hours
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    device_mebibytes_per_day: u64,
    /// Requests a second of one key; five times as many at once
    #[arg(long, value_name = "REQUESTS", default_value = "20")]
    requests_per_second: NonZeroU32,
}

pub(super) async fn run(args: ServeArgs) -> Result<()> {
    let folder = args.data.folder();
    let intake = folder.intake().await?;
    let identity = match (args.certificate, args.key) {
        _ if args.plain => None,
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        _ => Some(folder.identity(&args.names)?),
    };
    let limits = Limits {
        segment_bytes: args.segment_mebibytes << 20,
        device_bytes_per_day: args.device_mebibytes_per_day << 20,
        requests_per_second: args.requests_per_second,
        ..Limits::default()
    };
    let (listener, metrics) = (listen(args.listen)?, args.metrics.map(listen).transpose()?);
    let scheme = if identity.is_some() { "https" } else { "http" };
    print(&format!("listening on {scheme}://{}, with {}", listener.local_addr()?, folder.path.display()))?;
    if let Some(identity) = &identity {
        print(&format!("certificate: {}", identity.certificate.display()))?;
    }
    let handle = Handle::new();
    let (mut terminate, stopping) = (signal(SignalKind::terminate())?, handle.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop(&stopping);
    });
    Ok(serve(intake, limits, listener, metrics, identity.as_ref(), handle).await?)
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
