mod config;
mod crash;
mod driver;
mod hostile;
mod orders;
mod registers;
mod rings;
