//! Plots of the figures as SVG, on a white background so that they can be read on any page.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::{Shift, ranged1d::Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Figure, Limit};
use test_programs::program::Program;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (820, 420);
/// Where the plotting area begins and ends, in pixels from the edges.
const TOP: i32 = 78;
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const LIMIT: RGBColor = RGBColor(0xc8, 0x1e, 0x1e);
const GRID: RGBColor = RGBColor(0xe1, 0xe4, 0xe8);
/// Colours that colour-blind people can tell apart (Okabe and Ito), the first for the handler.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x8c, 0x95, 0x9f),
];

/// Groups of bars, one bar in each group for each series.
struct Chart {
    title: &'static str,
    /// What the vertical axis shows.
    unit: &'static str,
    is_logarithmic: bool,
    series: Vec<String>,
    groups: Vec<(String, Vec<Bar>)>,
}

#[derive(Clone, Copy)]
struct Bar {
    from: f64,
    to: f64,
    /// The least and the most of the values of which `to` is the median.
    spread: Option<(f64, f64)>,
    /// The value that it must reach, or must not exceed.
    limit: Option<f64>,
}

impl From<&Figure> for Bar {
    fn from(figure: &Figure) -> Self {
        let other = figure.beside.as_ref().map(|beside| figure.median / beside.ratio);
        let limit = figure.limit.and_then(|limit| match limit {
            Limit::RatioAtLeast(ratio) | Limit::RatioAtMost(ratio) => Some(ratio * other?),
            Limit::AtMost(value) => Some(value),
        });
        let spread = (figure.values > 1).then_some((figure.least, figure.most));
        Self { from: 0.0, to: figure.median, spread, limit }
    }
}

/// Draws what there are figures for.
pub(crate) fn draw(figures: &[Figure], folder: &Path) {
    let select = Select(figures);
    for (name, chart) in [
        ("hits", select.hits()),
        ("latency", select.latency()),
        ("peers", select.peers()),
        ("misses", select.misses()),
        ("stampede", select.stampede()),
        ("race", select.race()),
        ("memory", select.memory()),
        ("growth", select.growth()),
    ] {
        if chart.groups.iter().any(|(_, bars)| !bars.is_empty()) {
            let file = folder.join(name).with_extension("svg");
            chart.write(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

/// The figures that a chart shows.
struct Select<'a>(&'a [Figure]);

const ANSWERS: [&str; 5] = ["Redis", "local copy", "in process", "constant answer", "Redis itself"];

impl<'a> Select<'a> {
    fn of(&self, measurement: &str, quantity: &str) -> Vec<&'a Figure> {
        let is_of = |it: &&Figure| it.measurement == measurement && it.quantity == quantity;
        self.0.iter().filter(is_of).collect()
    }

    /// A group for each condition, with a bar for each of these subjects.
    fn by_condition(&self, measurement: &str, quantity: &str, subjects: &[&str]) -> Vec<Group> {
        let figures = self.of(measurement, quantity);
        let conditions = figures.chunk_by(|a, b| a.condition == b.condition);
        let group = |figures: &[&Figure]| {
            let of = |subject: &&str| figures.iter().find(|figure| figure.subject == *subject);
            let bars = subjects.iter().filter_map(of).map(|figure| Bar::from(*figure));
            (figures[0].condition.clone(), bars.collect())
        };
        conditions.map(group).collect()
    }

    /// A group for each subject, with a bar for each of these quantities.
    fn by_subject(&self, measurement: &str, quantities: &[&str]) -> Vec<Group> {
        let first = self.of(measurement, quantities[0]).into_iter();
        let group = |subject: &Figure| {
            let bars = quantities.iter().filter_map(|quantity| {
                let figures = self.of(measurement, quantity).into_iter();
                figures
                    .filter(|figure| figure.condition == subject.condition)
                    .find(|figure| figure.subject == subject.subject)
            });
            (subject.subject.clone(), bars.map(Bar::from).collect())
        };
        first.filter(|figure| figure.condition.is_empty()).map(group).collect()
    }

    fn hits(&self) -> Chart {
        Chart {
            title: "Hits: one user who is cached, beside a constant answer",
            unit: "requests per second",
            is_logarithmic: false,
            series: names(&ANSWERS),
            groups: self.by_condition("hits", "requests", &ANSWERS),
        }
    }

    fn latency(&self) -> Chart {
        let mut groups = self.by_condition("hits", "p99", &ANSWERS);
        for ((_, bars), (_, p50)) in
            groups.iter_mut().zip(self.by_condition("hits", "p50", &ANSWERS))
        {
            for (bar, p50) in bars.iter_mut().zip(p50) {
                *bar = Bar { from: p50.to, spread: None, ..*bar };
            }
        }
        Chart {
            title: "Hits: time to the answer; each bar from p50 to p99",
            unit: "milliseconds",
            is_logarithmic: true,
            series: names(&ANSWERS),
            groups,
        }
    }

    fn peers(&self) -> Chart {
        let mut groups = self.by_subject("peers", &["hits in Redis", "constant answers"]);
        let beside: Vec<_> =
            self.of("peers", "hits in Redis").into_iter().filter(|it| it.limit.is_some()).collect();
        for ((name, bars), ours) in groups.iter_mut().skip(1).zip(beside) {
            if let Some(Limit::RatioAtLeast(ratio)) = ours.limit {
                bars[0].limit = Some(ours.median / ratio);
                *name = format!("{name} (limit: handler / {ratio})");
            }
        }
        Chart {
            title: "Hits in Redis with 64 connections, beside the peers",
            unit: "requests per second",
            is_logarithmic: false,
            series: names(&["hits in Redis", "constant answers"]),
            groups,
        }
    }

    fn misses(&self) -> Chart {
        Chart {
            title: "Misses: users who are not cached, 16 connections",
            unit: "reads per second",
            is_logarithmic: false,
            series: names(&["misses"]),
            groups: self.by_subject("misses", &["misses"]),
        }
    }

    fn stampede(&self) -> Chart {
        Chart {
            title: "1,000 reads at the same moment of one user who is not cached, over 3 processes",
            unit: "reads of the table",
            is_logarithmic: false,
            series: names(&["reads of the table"]),
            groups: self.by_subject("stampede", &["reads of the table"]),
        }
    }

    fn race(&self) -> Chart {
        let quantities = ["stale reads", "reads that go backwards"];
        let mut groups = self.by_subject("race", &quantities);
        for (name, bars) in &mut groups {
            let reads = self.of("race", "reads").into_iter().find(|reads| reads.subject == *name);
            let percent = 100.0 / reads.map_or(f64::NAN, |reads| reads.median);
            bars.iter_mut().for_each(|bar| bar.to *= percent);
        }
        Chart {
            title: "One writer and 16 readers of one user, over 2 processes",
            unit: "percent of all reads",
            is_logarithmic: false,
            series: names(&quantities),
            groups,
        }
    }

    fn memory(&self) -> Chart {
        let programs = Program::ALL.map(Program::name);
        Chart {
            title: "Resident memory of one process",
            unit: "megabytes",
            is_logarithmic: false,
            series: names(&programs),
            groups: self.by_condition("footprint", "memory", &programs),
        }
    }

    fn growth(&self) -> Chart {
        Chart {
            title: "Hits in Redis of users at random, by the number of users who are cached",
            unit: "requests per second",
            is_logarithmic: false,
            series: names(&["hits"]),
            groups: self.by_subject("growth", &["hits"]),
        }
    }
}

type Group = (String, Vec<Bar>);

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Chart {
    fn write(&self, file: &Path) -> Drawn {
        let root = SVGBackend::new(file, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        let tops = bars().flat_map(|bar| {
            [bar.to, bar.spread.map_or(0.0, |(_, most)| most), bar.limit.unwrap_or(0.0)]
        });
        let top = tops.fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.08;
        if self.is_logarithmic {
            let bottom = bars().map(|bar| bar.from).fold(f64::INFINITY, f64::min) * 0.7;
            self.draw(&root, (bottom..top * 1.2).log_scale())?;
        } else {
            self.draw(&root, 0.0..top)?;
        }
        root.present()?;
        Ok(())
    }

    fn draw<Y>(&self, root: &Area, y: Y) -> Drawn
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(root)
            .margin_top(TOP)
            .margin_left(16)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..self.groups.len() as f64, y)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text(12))
            .y_desc(self.unit)
            .axis_desc_style(text(13))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        let bottom = chart.plotting_area().get_pixel_range().1.end;
        for (nth, (name, bars)) in self.groups.iter().enumerate() {
            let left = nth as f64 + 0.1;
            let width = 0.8 / bars.len() as f64;
            for (which, bar) in bars.iter().enumerate() {
                let x = |share: f64| left + (which as f64 + share) * width;
                let at = |share: f64, value: f64| chart.backend_coord(&(x(share), value));
                let floor = if bar.from > 0.0 { at(0.0, bar.from).1 } else { bottom };
                bar.draw(root, floor, self.colour(name, which), &at)?;
            }
            let middle = chart.backend_coord(&(nth as f64 + 0.5, 1.0)).0;
            root.draw(&label(name, (middle, bottom + 10), VPos::Top, 13))?;
        }
        self.draw_legend(root)
    }

    /// By series; if there is only one, the handler's bars differ from others.
    fn colour(&self, group: &str, series: usize) -> RGBColor {
        let is_other = |other: &str| group.starts_with(other);
        let others = Program::PEERS.map(Program::name);
        if self.series.len() == 1 && (others.into_iter().any(is_other) || is_other("bare client")) {
            return COLOURS[COLOURS.len() - 1];
        }
        COLOURS[series]
    }

    fn draw_legend(&self, root: &Area) -> Drawn {
        root.draw(&Text::new(self.title, (20, 14), text(17)))?;
        let mut x = 20;
        // No line is drawn for a limit of at most 1.
        let has_limit = |bar: &Bar| bar.limit.is_some_and(|limit| limit > 1.0);
        let has_limit = self.groups.iter().any(|(_, bars)| bars.iter().any(has_limit));
        let series = self.series.iter().map(String::as_str).zip(COLOURS);
        let series = series.filter(|_| self.series.len() > 1);
        for (name, colour) in series.chain(has_limit.then_some(("limit", LIMIT))) {
            let height = if colour == LIMIT { 2 } else { 6 };
            root.draw(&Rectangle::new([(x, 53 - height), (x + 14, 53 + height)], colour.filled()))?;
            root.draw(&Text::new(name, (x + 20, 46), text(13)))?;
            x += 44 + name.chars().count() as i32 * 7;
        }
        Ok(())
    }
}

impl Bar {
    /// `at` gives the pixel of a share of the bar's width, and of a value.
    fn draw(
        &self,
        root: &Area,
        floor: i32,
        colour: RGBColor,
        at: &dyn Fn(f64, f64) -> (i32, i32),
    ) -> Drawn {
        let (left, top) = at(0.08, self.to);
        let right = at(0.92, self.to).0;
        root.draw(&Rectangle::new([(left, top), (right, floor)], colour.filled()))?;
        if let Some((least, most)) = self.spread {
            root.draw(&PathElement::new([at(0.5, least), at(0.5, most)], INK))?;
        }
        let most = at(0.5, self.spread.map_or(self.to, |(_, most)| most)).1;
        // Above the bar: beside the line of the spread if there is space, or else above it.
        let is_wide = right - left > 70 && most < top - 10;
        let (middle, mut baseline) = if is_wide {
            ((3 * left + right) / 4, top - 4)
        } else {
            ((left + right) / 2, most - 4)
        };
        let mut words = short(self.to);
        if let Some(limit) = self.limit {
            let ends = [at(-0.02, limit), at(1.02, limit)];
            if floor - ends[0].1 < 4 {
                words = format!("{words} (limit: {})", short(limit)); // a line would hide the bar
            } else {
                root.draw(&PathElement::new(ends, LIMIT.stroke_width(3)))?;
            }
            if (ends[0].1..ends[0].1 + 16).contains(&baseline) {
                baseline = ends[0].1 - 4;
            }
        }
        root.draw(&label(&words, (middle, baseline), VPos::Bottom, 11))?;
        if self.from > 0.0 {
            root.draw(&label(&short(self.from), (middle, floor + 4), VPos::Top, 11))?;
        }
        Ok(())
    }
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A centred text, above or below a point.
fn label(
    words: &str,
    at: (i32, i32),
    vertical: VPos,
    size: u32,
) -> Text<'static, (i32, i32), String> {
    Text::new(words.to_owned(), at, text(size).pos(Pos::new(HPos::Center, vertical)))
}

/// With about three digits: `70k`, `1.2k`, `0.25`.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        large if large >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        large if large >= 1_000.0 => format!("{:.1}k", value / 1000.0),
        large if large >= 10.0 => format!("{value:.0}"),
        large if large >= 1.0 => trim(format!("{value:.1}")),
        large if large >= 0.01 => trim(format!("{value:.2}")),
        _ => format!("{value:.4}"),
    }
}

fn trim(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}
