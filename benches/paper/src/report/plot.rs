//! Drawings in SVG, whose text and lines have the colour of the page's text.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::ops::Range;

/// Stands for the colour of the text around the drawing: replaced when it is done.
const TEXT: RGBColor = RGBColor(1, 2, 3);

const WIDTH: u32 = 860;
/// Where bars begin, and how long the longest may be: what it says stands behind it.
const LEFT: i32 = 250;
const LENGTH: i32 = 470;
const ROW: i32 = 26;
const BAR: i32 = 16;
const HEAD: i32 = 8;

/// A drawing that failed.
pub(crate) type Failed = Box<dyn Error>;

/// A bar of several parts, one behind the other.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) parts: Vec<(f64, RGBColor)>,
    /// From the first quartile to the third.
    pub(crate) between: Option<(f64, f64)>,
    /// What stands behind it.
    pub(crate) text: String,
}

/// A line through points.
pub(crate) struct Line {
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) colour: RGBColor,
    /// It is dashed, and its points are triangles instead of circles.
    pub(crate) is_dashed: bool,
}

fn style(size: u32, horizontal: HPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT).pos(Pos::new(horizontal, VPos::Center))
}

/// Runs `draw`, and gives the drawing with this description.
fn drawing(
    height: u32,
    about: &str,
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Failed>,
) -> Result<String, Failed> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    let svg = svg.replace("\"#010203\"", "\"currentColor\"");
    // A page has it in its text, where an XML declaration would be wrong.
    let begin = svg.find("<svg").unwrap_or(0);
    Ok(svg[begin..].replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{}\" ", super::escape(about)),
        1,
    ))
}

/// Horizontal bars from 0, on an axis that `tick` names.
pub(crate) fn bars(about: &str, rows: &[Bar], tick: impl Fn(f64) -> String) -> Result<String, Failed> {
    let parts = |bar: &Bar| bar.parts.iter().map(|part| part.0).sum::<f64>();
    let longest = rows.iter().map(parts).fold(0.0, f64::max);
    // One round of a busy machine must not make everything else small: what is far beyond the bars is cut off.
    let length = |bar: &Bar| parts(bar).max(bar.between.map_or(0.0, |between| between.1).min(1.2 * longest));
    let most = rows.iter().map(length).fold(0.0, f64::max);
    if !most.is_finite() || most <= 0.0 {
        return Ok(String::new());
    }
    let bottom = HEAD + ROW * rows.len() as i32;
    let at = |value: f64| LEFT + (value.clamp(0.0, most) / most * f64::from(LENGTH)) as i32;
    drawing((bottom + 28) as u32, about, |area| {
        for value in ticks(most) {
            let x = at(value);
            area.draw(&PathElement::new(vec![(x, HEAD), (x, bottom)], TEXT.mix(0.15)))?;
            area.draw(&Text::new(tick(value), (x, bottom + 12), style(12, HPos::Center)))?;
        }
        for (index, row) in rows.iter().enumerate() {
            let middle = HEAD + ROW * index as i32 + ROW / 2;
            area.draw(&Text::new(row.label.clone(), (LEFT - 10, middle), style(14, HPos::Right)))?;
            let mut from = 0.0;
            for (value, colour) in &row.parts {
                let corners = [(at(from), middle - BAR / 2), (at(from + value), middle + BAR / 2)];
                area.draw(&Rectangle::new(corners, colour.filled()))?;
                from += value;
            }
            if let Some((low, high)) = row.between {
                for line in whisker(at(low), at(high), middle) {
                    area.draw(&PathElement::new(line, TEXT.stroke_width(1)))?;
                }
            }
            let end = at(length(row)) + 8;
            area.draw(&Text::new(row.text.clone(), (end, middle), style(13, HPos::Left)))?;
        }
        Ok(())
    })
}

/// A line with two ends.
fn whisker(low: i32, high: i32, middle: i32) -> [Vec<(i32, i32)>; 3] {
    let end = |x: i32| vec![(x, middle - 4), (x, middle + 4)];
    [vec![(low, middle), (high, middle)], end(low), end(high)]
}

/// Some four round numbers from 0.
fn ticks(most: f64) -> Vec<f64> {
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| most / step <= 5.0).unwrap_or(most);
    (0..).map(|index| f64::from(index) * step).take_while(|value| *value <= most).collect()
}

/// Powers of this base that hold the values between them.
fn decades(values: impl Iterator<Item = f64>, base: f64) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    base.powf(low.log(base).floor())..base.powf(high.log(base).ceil())
}

/// Lines over axes that are both logarithmic.
pub(crate) fn lines(
    about: &str,
    lines: &[Line],
    (x_name, y_name): (&str, &str),
    x_text: impl Fn(f64) -> String,
) -> Result<String, Failed> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    if points().next().is_none() {
        return Ok(String::new());
    }
    let x_range = decades(points().map(|point| point.0), 4.0);
    let y_range = decades(points().map(|point| point.1), 10.0);
    drawing(440, about, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            // Half of the last name on the axis.
            .margin_right(36)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(x_range.log_scale().base(4.0), y_range.log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(TEXT.mix(0.15))
            .light_line_style(TEXT.mix(0.0))
            .axis_style(TEXT.mix(0.6))
            .label_style(("sans-serif", 13).into_font().color(&TEXT))
            .axis_desc_style(("sans-serif", 14).into_font().color(&TEXT))
            .x_desc(x_name)
            .y_desc(y_name)
            .x_label_formatter(&|value| x_text(*value))
            .y_label_formatter(&|value| super::figures::power(*value))
            .draw()?;
        for line in lines {
            let (points, stroke) = (|| line.points.iter().copied(), line.colour.stroke_width(2));
            if line.is_dashed {
                chart.draw_series(DashedLineSeries::new(points(), 6, 4, stroke))?;
                chart
                    .draw_series(points().map(|point| TriangleMarker::new(point, 5, line.colour.filled())))?;
            } else {
                chart.draw_series(LineSeries::new(points(), stroke))?;
                chart.draw_series(points().map(|point| Circle::new(point, 4, line.colour.filled())))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(9.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(130.0), [0.0, 50.0, 100.0]);
        for most in [0.3, 1.0, 7.7, 1e6] {
            assert!((3..=6).contains(&ticks(most).len()), "{most}: {:?}", ticks(most));
        }
    }

    #[test]
    fn decades_hold_what_is_between_them() {
        assert_eq!(decades([0.02, 30.0].into_iter(), 10.0), 0.01..100.0);
    }

    #[test]
    fn text_has_the_colour_of_the_page() {
        let bar = Bar {
            label: "a<b".into(),
            parts: vec![(2.0, BLUE)],
            between: Some((1.0, 3.0)),
            text: "2".into(),
        };
        let svg = bars("one \"bar\"", &[bar], |value| value.to_string()).unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"one &quot;bar&quot;\""), "{svg}");
        assert!(svg.contains("currentColor") && !svg.contains("#010203"));
        assert!(svg.contains("a&lt;b"));
        assert_eq!(bars("nothing", &[], |value| value.to_string()).unwrap(), "");
    }
}
