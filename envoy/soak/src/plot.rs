//! Pictures of a run. Times in which something was wrong with the Tenant Manager are shaded.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::memory::Sample;
use crate::report::Report;

const SIZE: (u32, u32) = (1_000, 420);
const MIB: f64 = 1_048_576.0;

/// A line: its name, its colour and its points.
type Series = (&'static str, RGBColor, Vec<(f64, f64)>);

/// Resident memory, what Envoy's allocator has given out, and the line through the first.
pub(crate) fn memory(report: &Report) -> Result<String> {
    let of = |bytes: &dyn Fn(&Sample) -> u64| -> Vec<_> {
        report
            .samples
            .iter()
            .map(|sample| (sample.at, bytes(sample) as f64 / MIB))
            .collect()
    };
    let mut series = vec![
        ("resident", BLUE, of(&|sample| sample.resident)),
        ("Envoy's allocator", GREEN, of(&|sample| sample.allocated)),
    ];
    if let Some(trend) = &report.memory {
        let half = trend.slope * trend.seconds / 2.0;
        let line = [
            (trend.from, trend.mean - half),
            (trend.from + trend.seconds, trend.mean + half),
        ];
        series.push(("slope", RED, line.map(|(at, bytes)| (at, bytes / MIB)).to_vec()));
    }
    drawn(report, ("Memory of Envoy", "MiB"), &series)
}

/// Requests per second.
pub(crate) fn traffic(report: &Report) -> Result<String> {
    let rates = |of: &dyn Fn(&Sample) -> u64| -> Vec<_> {
        let rate = |pair: &[Sample]| match pair {
            [one, two] if two.at > one.at => Some((two.at, (of(two) - of(one)) as f64 / (two.at - one.at))),
            _ => None,
        };
        report.samples.windows(2).filter_map(rate).collect()
    };
    let series = [
        ("answered", BLUE, rates(&|sample| sample.answered)),
        ("forwarded", GREEN, rates(&|sample| sample.forwarded)),
    ];
    drawn(report, ("Requests", "per second"), &series)
}

fn drawn(report: &Report, (title, unit): (&str, &str), series: &[Series]) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    chart(&area, report, (title, unit), series).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    drop(area);
    Ok(text)
}

type Area<'t> = DrawingArea<SVGBackend<'t>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn chart(area: &Area<'_>, report: &Report, (title, unit): (&str, &str), series: &[Series]) -> Drawn {
    area.fill(&WHITE)?;
    let points = || series.iter().flat_map(|(_, _, points)| points);
    let end = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let top = points().map(|(_, value)| *value).fold(1.0, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let shaded = report
        .troubles
        .iter()
        .map(|fault| Rectangle::new([(fault.from, 0.0), (fault.to.min(end), top)], RED.mix(0.12).filled()));
    chart.draw_series(shaded)?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.06))
        .x_desc("seconds")
        .y_desc(unit)
        .draw()?;
    for (name, colour, points) in series {
        let line: LineSeries<SVGBackend<'_>, (f64, f64)> = LineSeries::new(points.iter().copied(), colour);
        let (colour, name) = (*colour, *name);
        chart
            .draw_series(line)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()
}
