//! A picture of the Mandelbrot set, drawn in tiles by a pool of processes that are killed all the
//! time: `cargo run --release --example render_farm [FILE [TILES BETWEEN KILLS]]`

use std::env;
use std::error::Error;
use std::fs;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use tombolo::process::{self, ProcessPool, pool};

const WIDTH: usize = 960;
const HEIGHT: usize = 640;
const TILE: usize = 32;
const ITERATIONS: u32 = 2000;

/// Draws one tile: a brightness for each pixel.
fn render((left, top): (usize, usize)) -> Vec<u8> {
    let pixels = (top..top + TILE).flat_map(|y| (left..left + TILE).map(move |x| (x, y)));
    pixels.map(|(x, y)| brightness(x as f64 / WIDTH as f64 * 3.0 - 2.1, y as f64 / HEIGHT as f64 * 2.0 - 1.0)).collect()
}

fn brightness(re: f64, im: f64) -> u8 {
    let (mut x, mut y) = (0.0, 0.0);
    for n in 0..ITERATIONS {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        if x * x + y * y > 4.0 {
            return (f64::from(n + 1).ln() * 40.0) as u8;
        }
    }
    0
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();
    let mut arguments = env::args().skip(1);
    let file = arguments.next().map_or_else(|| env::temp_dir().join("tombolo-render-farm.pgm"), Into::into);
    let kill_after: usize = arguments.next().as_deref().unwrap_or("8").parse()?;

    // A tile can lose many workers here and be innocent.
    let pool = pool::Builder::new().max_attempts(1000).build()?;
    let picture = draw(&pool, kill_after)?;
    let stats = pool.stats();
    pool.join()?;

    let mut content = format!("P5 {WIDTH} {HEIGHT} 255\n").into_bytes();
    content.extend(&picture);
    fs::write(&file, content)?;
    for row in picture.chunks(WIDTH).step_by(HEIGHT / 24) {
        println!("{}", row.iter().step_by(WIDTH / 72).map(|&pixel| shade(pixel)).collect::<String>());
    }
    println!("{} tiles, {} workers died: {}", stats.succeeded, stats.workers_died, file.display());
    Ok(())
}

/// Kills a worker, another one each time, whenever it has got some tiles.
fn draw(pool: &ProcessPool, kill_after: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let corners: Vec<(usize, usize)> =
        (0..HEIGHT).step_by(TILE).flat_map(|top| (0..WIDTH).step_by(TILE).map(move |left| (left, top))).collect();
    let style = "{bar:40} {pos}/{len} tiles, {msg} workers died, {eta} left";
    let bar = ProgressBar::new(corners.len() as u64).with_style(ProgressStyle::with_template(style)?);
    let mut picture = vec![0; WIDTH * HEIGHT];
    let tiles = pool.map_unordered(render, corners.iter().copied()).chunk_size(4);
    for (count, (index, tile)) in (1..).zip(tiles) {
        let (left, top) = corners[index];
        for (row, pixels) in tile?.chunks(TILE).enumerate() {
            let start = (top + row) * WIDTH + left;
            picture[start..start + TILE].copy_from_slice(pixels);
        }
        if count % kill_after == 0 {
            let pids = pool.pids();
            if let Some(pid) = pids.get(count / kill_after % pids.len().max(1)) {
                let _ = kill_process(Pid::from_raw(*pid as i32).ok_or("no pid")?, Signal::KILL);
            }
        }
        bar.set_message(pool.stats().workers_died.to_string());
        bar.inc(1);
    }
    bar.finish();
    Ok(picture)
}

fn shade(pixel: u8) -> char {
    [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'][usize::from(pixel) * 10 / 256]
}
