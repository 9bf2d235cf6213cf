//! What a simulation found: accuracy by round in each scenario, with guards and without.

use maud::{Markup, PreEscaped, html};

use super::{
    Fact,
    chart::{Axis, Chart, Mark, fraction_range},
    format::{NONE, count, percent, round_percent},
    ink::{Ink, Shape, legend},
    page::{self, style},
};
use crate::simulate::{Coverage, RoundOutcome, Run, Scenario, Simulation};

const GUARDED: Ink = Ink::Series(0);
const UNGUARDED: Ink = Ink::Series(1);
const AUDIT: Ink = Ink::Reference(0);
/// Panels beside each other in a drawing, and their size in pixels.
const COLUMNS: usize = 2;
const PANEL: [usize; 2] = [480, 310];

/// The page: it needs nothing else.
pub fn simulation_page(simulation: &Simulation) -> String {
    let Simulation { coverage, bad_published, bad_published_unguarded, runs } = simulation;
    let facts = [
        Fact::new("Runs", count(runs.len())),
        Fact::new("Worse models that went out", count(*bad_published)),
        Fact::new("The same without guards", count(*bad_published_unguarded)),
    ];
    let main = html! {
        section aria-label="Accuracy by round" {
            h2 { "Accuracy in the field by round" }
            p.note {
                "On images such as devices see after the round, by the model that serves then. A line is the mean of all seeds, a mark one of \
                 them: a ring for a round whose model did not go out. A grey bar is what audit samples say, at 95 %, of the model before."
            }
            @for (scenario, runs) in by_scenario(runs) {
                h3 { (scenario.name()) }
                figure.beside { (chart(&runs).svg(&alt(scenario, &runs))) figcaption { (legend(entries(&runs))) } }
            }
        }
        (held(coverage))
        section aria-label="Rounds" {
            h2 { "What the gate said" }
            @for run in runs {
                details {
                    summary { (run.scenario.name()) ", seed " (run.seed) }
                    ol { @for round in &run.guarded { li { @if round.published { "✓ " } @else { "✕ " } (round.reason) } } }
                }
            }
        }
    };
    page::frame("Flywheel: rounds whose truth is known", &facts, None, &html! {}, &main).into_string()
}

/// The charts of all scenarios as one SVG document that follows the reader's light or dark setting.
pub fn simulation_svg(simulation: &Simulation) -> String {
    let scenarios = by_scenario(&simulation.runs);
    let [width, height] = PANEL;
    let (rows, columns) = (scenarios.len().div_ceil(COLUMNS), COLUMNS.min(scenarios.len()));
    let place = |i: usize| (i % COLUMNS * width, i / COLUMNS * height + 30);
    let size = format!("0 0 {} {}", columns * width, rows * height + 30);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(columns * width) viewBox=(size) font-family="sans-serif" role="img"
            aria-label="Accuracy in the field by round, in each scenario" {
            style { (PreEscaped(style())) "svg { background: var(--paper) }" }
            @for (x, ink, text) in [(12, GUARDED, "with guards"), (132, UNGUARDED, "without"), (232, AUDIT, "by audit, 95 %, of the model before")] {
                line class={ "stroke " (ink.class()) } x1=(x) x2=(x + 24) y1="16" y2="16" stroke-width="3" {}
                text class={ "fill " (Ink::Text.class()) } x=(x + 30) y="20" font-size="13" { (text) }
            }
            @for (i, (scenario, runs)) in scenarios.iter().enumerate() {
                @let (x, y) = place(i);
                text class={ "fill " (Ink::Text.class()) } x=(x + 54) y=(y + 16) font-size="14" font-weight="bold" { (scenario.name()) }
                svg x=(x) y=(y + 20) width=(width) height=(height - 30) { (chart(runs).svg(&alt(*scenario, runs))) }
            }
        }
    };
    svg.into_string()
}

fn by_scenario(runs: &[Run]) -> Vec<(Scenario, Vec<&Run>)> {
    let mut scenarios: Vec<(Scenario, Vec<&Run>)> = Vec::new();
    for run in runs {
        match scenarios.iter_mut().find(|(scenario, _)| *scenario == run.scenario) {
            Some((_, of_scenario)) => of_scenario.push(run),
            None => scenarios.push((run.scenario, vec![run])),
        }
    }
    scenarios
}

fn chart(runs: &[&Run]) -> Chart {
    let rounds = runs.iter().map(|run| run.guarded.len()).max().unwrap_or(1);
    let at = |round: &RoundOutcome| (f64::from(round.round), round.field_accuracy);
    let mut marks = Vec::new();
    for audit in runs.iter().flat_map(|run| &run.guarded).filter_map(|round| Some((round.round, round.audit?.estimate)))
    {
        let (x, estimate) = (f64::from(audit.0) - 0.5, audit.1);
        marks.push(Mark::Line { ink: AUDIT, points: vec![(x, estimate.at_least), (x, estimate.at_most)], width: 3 });
    }
    for (ink, arm) in [(UNGUARDED, unguarded as fn(&Run) -> &[RoundOutcome]), (GUARDED, guarded)] {
        marks.push(Mark::Line { ink, points: mean(runs, rounds, arm), width: 3 });
        for round in runs.iter().flat_map(|run| arm(run)) {
            let shape = if round.published { Shape::Disc } else { Shape::Ring };
            marks.push(Mark::Point { ink, at: at(round), shape, radius: 3.5 });
        }
    }
    let all = runs.iter().flat_map(|run| run.guarded.iter().chain(&run.unguarded));
    let audits = runs.iter().flat_map(|run| &run.guarded).filter_map(|round| Some(round.audit?.estimate));
    let values = all.map(|round| round.field_accuracy).chain(audits.flat_map(|a| [a.at_least, a.at_most]));
    Chart {
        x: Axis {
            range: 0.5..rounds as f64 + 0.5,
            ticks: Some((1..=rounds).map(|r| r as f64).collect()),
            format: whole,
        },
        x_name: "round",
        y: Axis { range: fraction_range(values), ticks: None, format: round_percent },
        marks,
    }
}

fn whole(round: f64) -> String {
    format!("{round:.0}")
}

fn guarded(run: &Run) -> &[RoundOutcome] {
    &run.guarded
}

fn unguarded(run: &Run) -> &[RoundOutcome] {
    &run.unguarded
}

fn mean(runs: &[&Run], rounds: usize, arm: fn(&Run) -> &[RoundOutcome]) -> Vec<(f64, f64)> {
    let of_round = |i: usize| {
        let values: Vec<f64> = runs.iter().filter_map(|run| Some(arm(run).get(i)?.field_accuracy)).collect();
        ((i + 1) as f64, values.iter().sum::<f64>() / values.len() as f64)
    };
    (0..rounds).map(of_round).collect()
}

fn alt(scenario: Scenario, runs: &[&Run]) -> String {
    let rounds = runs.iter().map(|run| run.guarded.len()).max().unwrap_or(1);
    let last = |arm| mean(runs, rounds, arm).last().map_or(NONE.into(), |(_, value)| percent(*value));
    format!("{}: {} in the last round with guards, {} without", scenario.name(), last(guarded), last(unguarded))
}

fn entries(runs: &[&Run]) -> Vec<(Ink, Option<Shape>, String)> {
    let mut entries = vec![
        (GUARDED, Some(Shape::Disc), "with guards".to_owned()),
        (UNGUARDED, Some(Shape::Disc), "without".to_owned()),
    ];
    if runs.iter().flat_map(|run| &run.guarded).any(|round| !round.published) {
        entries.push((GUARDED, Some(Shape::Ring), "did not go out".to_owned()));
    }
    entries.push((AUDIT, None, "what audit samples say of the model before".to_owned()));
    entries
}

fn held(coverage: &Coverage) -> Markup {
    let of = |count: usize, all: usize| if all == 0 { NONE.into() } else { percent(count as f64 / all as f64) };
    let draws = coverage.draws;
    let rows = [
        ("accuracy in the field", of(coverage.field, draws)),
        ("difference in the field, lower end", of(coverage.field_at_least, draws)),
        ("difference in the field, upper end", of(coverage.field_at_most, draws)),
        ("accuracy on the test set", of(coverage.test, draws)),
        ("difference on the test set, lower end", of(coverage.test_at_least, draws)),
        ("worse models that the gate let pass", of(coverage.worse_passed, coverage.worse)),
        ("models that are not worse that it refused", of(coverage.not_worse_refused, coverage.not_worse)),
    ];
    html! {
        section aria-label="Intervals" {
            h2 { "How often 95 % intervals hold the truth" }
            p.note { "The gate was asked again " (count(draws)) " times about the same models, each time with other audit samples and another test set." }
            table {
                thead { tr { th scope="col" { "interval" } th scope="col" { "held" } } }
                tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } }
            }
        }
    }
}
