//! A real S3 server in a folder, served while it lives.

use std::{collections::BTreeMap, path::PathBuf};

use hub::objects::Bucket;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};

use crate::hub::Result;

const KEY: (&str, &str) = ("AKIDFLEET", "the fleet's secret");

pub(crate) struct S3Server {
    endpoint: String,
    serving: JoinHandle<()>,
    folder: TempDir,
}

impl S3Server {
    /// With a bucket named `fleet`.
    pub(crate) fn start(runtime: &Runtime) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("fleet"))?;
        let files = FileSystem::new(folder.path()).map_err(|e| format!("{e:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
        let service = service.build();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let serving = runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await
                });
            }
        });
        Ok(Self { endpoint, serving, folder })
    }

    /// The file of an object.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("fleet").join(name)
    }

    pub(crate) fn bucket(&self, url: &str) -> Bucket {
        let options = [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY.0),
            ("AWS_SECRET_ACCESS_KEY", KEY.1),
            ("AWS_PAGER", "not meant for us"),
        ];
        let options: BTreeMap<_, _> = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Bucket { url: url.to_owned(), options }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
