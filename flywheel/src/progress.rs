//! What a person sees of long work: bars while it runs, a line when it is done. All of it goes to stderr.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use trainer::{
    fit::Event,
    metrics::{Record, TrainRecord},
};

/// How often a run without a bar tells how it goes, at most.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A place for bars and lines.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// Prints a line above the bars.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.bars.is_hidden() {
            eprintln!("{}", text.as_ref());
        } else {
            // Without a terminal there is nothing that could fail to show it.
            let _ = self.bars.println(text);
        }
    }

    /// A spinner for work of unknown length; it disappears when dropped.
    pub fn spinner(&self, text: impl Into<String>) -> Spinner {
        let bar = self.bars.add(ProgressBar::new_spinner().with_message(text.into()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner { bar }
    }

    /// A bar for bytes that arrive; it disappears when dropped.
    pub fn bytes(&self, name: &str, total: Option<u64>) -> BytesBar {
        let template = "{prefix:>14} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(total.unwrap_or(0)).with_prefix(name.to_owned());
        let bar = self.bars.add(style.map_or(bar.clone(), |style| bar.with_style(style)));
        BytesBar { bar }
    }

    /// A bar for a training run.
    pub fn training(&self, name: &str, steps: u64) -> TrainingBar {
        let style = ProgressStyle::with_template("{prefix:>14} {bar:30} {pos}/{len} steps, {eta} left  {wide_msg}");
        let bar = ProgressBar::new(steps).with_prefix(name.to_owned());
        let bar = self.bars.add(style.map_or(bar.clone(), |style| bar.with_style(style)));
        TrainingBar {
            bar,
            speed: String::new(),
            accuracy: String::new(),
            losses: String::new(),
            next_line: Instant::now() + LINE_EVERY,
        }
    }
}

/// A spinner that disappears when dropped.
#[derive(Debug)]
pub struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    /// Changes its text.
    pub fn text(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for bytes that disappears when dropped.
#[derive(Debug)]
pub struct BytesBar {
    bar: ProgressBar,
}

impl BytesBar {
    /// So many bytes are here.
    pub fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

impl Drop for BytesBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bar of a training run; it disappears when dropped. Without a terminal, a line now and then.
#[derive(Debug)]
pub struct TrainingBar {
    bar: ProgressBar,
    speed: String,
    accuracy: String,
    losses: String,
    /// When a line may be printed again.
    next_line: Instant,
}

impl TrainingBar {
    /// Takes in what happened.
    pub fn update(&mut self, event: &Event) {
        match event {
            Event::Resumed(step) => {
                self.bar.set_position(*step);
                self.bar.reset_eta();
            }
            Event::Step(step) => self.bar.set_position(*step),
            Event::Logged(Record::Train(record)) => {
                self.speed = format!("loss {:.3}, {:.0} images/s", record.total, record.images_per_second);
                self.losses = losses(record);
            }
            Event::Logged(Record::Evaluation(record)) => {
                let test =
                    record.test.map(|test| format!(", test {:.1} % after {}", 100.0 * test.accuracy, record.step));
                self.accuracy = test.unwrap_or_default();
            }
        }
        if let Event::Logged(_) = event {
            let message = format!("{}{}{}", self.speed, self.accuracy, self.losses);
            if self.bar.is_hidden() && Instant::now() >= self.next_line {
                self.next_line = Instant::now() + LINE_EVERY;
                let (name, step, steps) = (self.bar.prefix(), self.bar.position(), self.bar.length().unwrap_or(0));
                eprintln!("{name}: step {step} of {steps}, {message}");
            }
            self.bar.set_message(message);
        }
    }
}

/// The losses that the total consists of, where there are several. They come last: a narrow terminal cuts them off.
fn losses(record: &TrainRecord) -> String {
    let named = [("unlabeled", record.unlabeled), ("pre-mixup", record.pre_mixup), ("rotation", record.rotation)];
    let others: String = named.into_iter().filter_map(|(name, loss)| Some(format!(", {name} {:.3}", loss?))).collect();
    if others.is_empty() { others } else { format!("; labeled {:.3}{others}", record.labeled) }
}

impl Drop for TrainingBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
