//! A page around the picture.
use super::{Marks, Picture};
use crate::view::View;

pub(crate) fn page(view: &View, marks: Option<&Marks>) -> String {
    let picture = Picture::of(view, marks);
    picture.element("")
}
