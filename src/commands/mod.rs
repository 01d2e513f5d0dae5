//! The commands: what `main` runs once the arguments are read. Context is added to errors here, at the edge.

mod cache;
mod cache_of;
mod demo;
pub mod limits;
mod origin;
mod probe;
mod proxy;
mod record;
mod serve;
mod signals;
mod visit;

pub use cache::cache;
pub use demo::demo;
pub use origin::origin;
pub use probe::probe;
pub use proxy::Proxy;
pub use record::record;
pub use serve::serve;
