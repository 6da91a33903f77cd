//! The pages, in a browser: the picture is there, all text is inside of it and legible, no script fails, and nothing is
//! loaded from elsewhere.
//!
//! The browser is Chromium. Where there is none the test says so and passes, unless `MORESTACK_REQUIRE_CHROMIUM` is set, as
//! it is in CI.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reports on the page that it stands at the end of. Chromium prints the page afterwards.
const PROBE: &str = r#"<script>
const faults = [];
for (const svg of document.querySelectorAll('figure svg')) {
  const outer = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  for (const [text, box] of texts) {
    if (box.width === 0) faults.push('empty: ' + text);
    if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.top < outer.top - 1 || box.bottom > outer.bottom + 1)
      faults.push('cut off: ' + text);
  }
  for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [texts[i][1], texts[j][1]];
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (w > 1 && h > 6) faults.push('on top of each other: ' + texts[i][0] + ' / ' + texts[j][0]);
  }
}
if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the window');
const result = document.createElement('pre');
result.id = 'probe';
result.textContent = JSON.stringify({
  faults, charts: document.querySelectorAll('figure svg').length,
  lines: document.querySelectorAll('figure svg .line').length, rows: document.querySelectorAll('tbody tr').length,
  requests: performance.getEntriesByType('resource').length,
});
document.body.appendChild(result);
</script>"#;

/// The browser, if there is one.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("MORESTACK_REQUIRE_CHROMIUM").is_none(), "there is no chromium on the PATH");
        eprintln!("not tested: there is no chromium on the PATH to show the page");
    }
    found
}

fn load(directory: &Path, args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_morestack-load")).args(args).current_dir(directory).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the browser wrote to its standard output, once it has shown a file.
fn browse(chromium: &Path, directory: &Path, file: &Path, args: &[&str]) -> String {
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--window-size=1400,1200"])
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .args(args)
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .expect("chromium starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    // Scripts that fail and what cannot be loaded is said on the console.
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many pixels of a picture have each colour.
fn colours(path: &Path) -> HashMap<[u8; 3], usize> {
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(path).expect("there is a picture"))).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits into memory")];
    let info = reader.next_frame(&mut pixels).expect("it is a PNG");
    let samples = info.color_type.samples();
    let mut counts = HashMap::new();
    for pixel in pixels[..info.buffer_size()].chunks_exact(samples) {
        *counts.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
    }
    counts
}

/// Checks a page: that it has so many charts and lines, and these colours in light and in dark.
fn check(directory: &Path, page: &str, charts: u64, lines: u64, looks: [(&str, &[[u8; 3]]); 2]) {
    let path = directory.join(page);
    let text = std::fs::read_to_string(&path).expect("the page was written");
    for word in ["http:", "https:", "<script", "url(", "@import"] {
        assert!(!text.contains(word), "{page} has {word}");
    }
    let Some(chromium) = chromium() else { return };

    let probed = directory.join(format!("probed-{page}"));
    std::fs::write(&probed, text + PROBE).unwrap();
    let dom = browse(&chromium, directory, &probed, &["--dump-dom"]);
    let (_, result) = dom.split_once("<pre id=\"probe\">").expect("the probe has run");
    let result: serde_json::Value = serde_json::from_str(result.split_once("</pre>").unwrap().0).expect("JSON");
    assert_eq!(result["faults"], serde_json::json!([]), "{page}");
    assert_eq!(result["charts"], charts, "{page}");
    assert_eq!(result["lines"], lines, "{page}");
    assert_eq!(result["requests"], 0, "{page} loads something");
    assert!(result["rows"].as_u64().unwrap() > 0, "{page}");

    for (scheme, wanted) in looks {
        let picture = directory.join(format!("{page}-{scheme}.png"));
        let (shot, scheme) = (format!("--screenshot={}", picture.display()), format!("--blink-settings={scheme}"));
        browse(&chromium, directory, &path, &[&shot, &scheme]);
        let colours = colours(&picture);
        for colour in wanted {
            let pixels = colours.get(colour).copied().unwrap_or(0);
            assert!(pixels >= 100, "{page}, {scheme}: {pixels} pixels of {colour:?}");
        }
    }
}

const DARK: &str = "preferredColorScheme=0";
const LIGHT: &str = "preferredColorScheme=1";

#[test]
fn the_page_of_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let run =
        ["run", "--workers", "1", "--rate", "5000", "--duration", "500ms", "--warmup", "10ms", "--html", "run.html"];
    load(directory.path(), &run);
    // The paper, and the lines of all and of the short ones: see page.css.
    let light: &[[u8; 3]] = &[[255, 255, 255], [0x1f, 0x6f, 0xd6], [0x10, 0x8a, 0x63]];
    let dark: &[[u8; 3]] = &[[0x14, 0x18, 0x1c], [0x7d, 0xb8, 0xff], [0x3f, 0xd0, 0xa0]];
    check(directory.path(), "run.html", 1, 4, [(LIGHT, light), (DARK, dark)]);
}

#[test]
fn the_page_of_a_sweep() {
    let directory = tempfile::tempdir().unwrap();
    let sweep = ["sweep", "--workers", "1", "--loads", "5%,10%,15%", "--duration", "250ms", "--warmup", "5ms"];
    load(directory.path(), &[&sweep[..], &["--executors", "morestack,tokio,rayon", "--slices", "100us,off"]].concat());
    // Morestack's and tokio's lines.
    let light: &[[u8; 3]] = &[[255, 255, 255], [0x1f, 0x6f, 0xd6], [0xd3, 0x54, 0x00]];
    let dark: &[[u8; 3]] = &[[0x14, 0x18, 0x1c], [0x7d, 0xb8, 0xff], [0xff, 0x9a, 0x52]];
    check(directory.path(), "sweep.html", 4, 16, [(LIGHT, light), (DARK, dark)]);
}
