use std::{fmt, sync::Arc, sync::atomic::Ordering};

use axum::{extract::State, http::header, response::IntoResponse};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{
    Serving,
    answers::{Refusal, failed},
};
use crate::device::{Shared, resident};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(serving): State<Serving>) -> Result<impl IntoResponse, Refusal> {
    // Books and store are locked while something is written.
    let text = tokio::task::spawn_blocking(move || text(serving.device)).await.map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.map_err(failed)?))
}

fn text(device: Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("flywheel");
    let latency = device.latency.clone();
    registry.register_with_unit("answer", "Time that the network took for an image", Unit::Seconds, latency);
    registry.register_collector(Box::new(Gauges(device)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// What the device knows of itself, at the moment at which it is asked.
#[derive(Debug)]
struct Gauges(Arc<Shared>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let device = &self.0;
        let counters = device.books().counters.clone();
        let store = device.store();
        let (bytes, open) = (store.bytes(), store.open_samples());
        let sealed = store.sealed().map_or(0, |segments| segments.len());
        drop(store);
        let view = device.view();
        let contact = view.contact.map_or(0.0, |at| at.as_duration().as_secs_f64());
        let trouble = i64::from(view.trouble.is_some());
        drop(view);
        let sequence = device.models().serving.map_or(0, |serving| serving.classifier.manifest().sequence);
        let resident = resident().unwrap_or(0);

        let mut count = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("images", "Images classified", counters.classified)?;
        count("unreadable_images", "Images that could not be read and were skipped", counters.unreadable)?;
        count("samples", "Images kept", counters.samples)?;
        count("evicted_samples", "Samples deleted again for more useful ones", counters.evicted)?;
        count("damaged_segments", "Segments set aside", counters.damaged)?;
        count(
            "skipped_frames",
            "Frames of the camera that there was no time for",
            device.skipped.load(Ordering::Relaxed),
        )?;

        let mut kept =
            encoder.encode_descriptor("kept", "Reasons that images were kept for", None, MetricType::Counter)?;
        for (kind, value) in &counters.kept {
            ConstCounter::new(*value).encode(kept.encode_family(&[("reason", kind.name())])?)?;
        }
        let mut dropped =
            encoder.encode_descriptor("dropped", "Images not kept, by what stopped them", None, MetricType::Counter)?;
        for (why, value) in &counters.dropped {
            ConstCounter::new(*value).encode(dropped.encode_family(&[("reason", why.name())])?)?;
        }

        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
        };
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        gauge("store", "Kept samples and segments on disk", Some(&Unit::Bytes), signed(bytes))?;
        gauge("store_limit", "What they may take", Some(&Unit::Bytes), signed(device.config.store_mebibytes << 20))?;
        gauge("open_samples", "Samples in no segment yet", None, signed(open as u64))?;
        gauge("sealed_segments", "Segments without a receipt", None, signed(sealed as u64))?;
        gauge("bundle_sequence", "Sequence number of the bundle that serves; 0: none", None, signed(sequence))?;
        gauge("remote_trouble", "1 if the last contact with the remote failed", None, trouble)?;
        gauge("memory", "Resident memory of the program", Some(&Unit::Bytes), signed(resident))?;
        let last = ConstGauge::new(contact);
        let help = "When the remote was last contacted without trouble, since 1970";
        last.encode(encoder.encode_descriptor("last_contact", help, Some(&Unit::Seconds), MetricType::Gauge)?)
    }
}
