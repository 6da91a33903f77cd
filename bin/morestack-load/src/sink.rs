//! Where results are written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file, or the standard output.
pub enum Sink {
    /// The standard output.
    Stdout,
    /// A file.
    File(File),
}

impl Sink {
    /// Opens what an option names, so that a file that cannot be written is known before the run. What the file holds stays
    /// until there is something to replace it.
    pub fn open(option: &str, path: &Path) -> Result<Sink, String> {
        if path == Path::new("-") {
            return Ok(Sink::Stdout);
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        file.map(Sink::File).map_err(|error| format!("cannot write {option} {}: {error}", path.display()))
    }

    /// Writes the whole of it.
    pub fn write(self, text: &str) -> io::Result<()> {
        match self {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
            Sink::File(mut file) => {
                // A pipe or a device has no length to set.
                if file.metadata()?.is_file() {
                    file.set_len(0)?;
                }
                file.write_all(text.as_bytes())
            }
        }
    }
}
