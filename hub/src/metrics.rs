//! What was asked of this process, and how long it took, for Prometheus.

use std::{fmt, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use models::hub::{OBJECTS, PAGES};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// From a look-up in the database to a segment over a slow line, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// What a path may be about; names of devices are no labels.
const KINDS: [&str; 8] = ["bundles", "channels", "clients", "devices", "pages", "receipts", "reviews", "segments"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    about: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    about: &'static str,
    status: u16,
}

/// What one process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram>,
    segments: Counter,
    segment_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("flywheel_hub");
        let answered = Family::<Answered, Counter>::default();
        let seconds = Family::<Asked, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let (segments, segment_bytes) = (Counter::default(), Counter::default());
        registry.register("requests", "Requests answered", answered.clone());
        registry.register_with_unit("request", "Time until the answer began", Unit::Seconds, seconds.clone());
        registry.register("segments", "Segments receipted, each as often as it was asked for", segments.clone());
        registry.register_with_unit("segment", "Size of segments receipted", Unit::Bytes, segment_bytes.clone());
        Self { registry, answered, seconds, segments, segment_bytes }
    }
}

impl Metrics {
    /// Counts a segment that was receipted.
    pub fn segment(&self, bytes: u64) {
        self.segments.inc();
        self.segment_bytes.inc_by(bytes);
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Answers a request by what comes after, and counts it.
pub async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let asked = Asked { method: method(request.method().as_str()), about: about(request.uri().path()) };
    let began = Instant::now();
    let response = next.run(request).await;
    metrics.seconds.get_or_create(&asked).observe(began.elapsed().as_secs_f64());
    let Asked { method, about } = asked;
    metrics.answered.get_or_create(&Answered { method, about, status: response.status().as_u16() }).inc();
    response
}

/// Anybody can send any: only what is known is a label.
fn method(method: &str) -> &'static str {
    ["GET", "HEAD", "PUT", "POST"].into_iter().find(|known| *known == method).unwrap_or("other")
}

fn about(path: &str) -> &'static str {
    match path.strip_prefix(OBJECTS) {
        Some("" | "/") => "list",
        Some(name) => {
            let folder = name.trim_start_matches('/').split('/').next().unwrap_or_default();
            KINDS.into_iter().find(|kind| *kind == folder).unwrap_or("other")
        }
        None => match path {
            models::hub::ENROL => "enrol",
            models::hub::ADMIN => "admin",
            _ if path.starts_with(PAGES) => "pages",
            _ => "other",
        },
    }
}

/// The page that Prometheus reads. It asks nobody who they are, and says nothing of any device.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(page)).with_state(metrics)
}

async fn page(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(e) => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_has_few_labels() {
        for (path, expected) in [
            ("/v1/objects/segments/cam-1/x.tar", "segments"),
            ("/v1/objects", "list"),
            ("/v1/objects/", "list"),
            ("/v1/objects/anything/else", "other"),
            ("/v1/enrol", "enrol"),
            ("/v1/admin", "admin"),
            ("/pages/images/x.png", "pages"),
            ("/v1/objects/pages/board.json", "pages"),
            ("/wp-login.php", "other"),
        ] {
            assert_eq!(about(path), expected, "{path}");
        }
        assert_eq!((method("PUT"), method("BREW")), ("PUT", "other"));
    }

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.segment(1000);
        metrics.answered.get_or_create(&Answered { method: "PUT", about: "segments", status: 201 }).inc();
        let text = metrics.text().expect("text");
        for line in [
            "flywheel_hub_segments_total 1",
            "flywheel_hub_segment_bytes_total 1000",
            r#"flywheel_hub_requests_total{method="PUT",about="segments",status="201"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
