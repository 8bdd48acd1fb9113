//! Listings, a page at a time.

use futures::{Stream, TryStreamExt, stream};

/// The part of a listing to return.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// The sort key after which the page begins.
    pub after: Option<String>,
    /// The maximum number of items, at least 1.
    pub limit: usize,
}

/// A page of a listing. A page may be empty without being the last.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Where the listing goes on: the next request's [`PageRequest::after`]. `None` at its end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same part of the listing, with each item as `convert` makes it.
    ///
    /// # Errors
    /// The first that `convert` gives.
    pub fn try_map<U, E>(self, convert: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let items = self.items.into_iter().map(convert).collect::<Result<_, _>>()?;
        Ok(Page { items, next: self.next })
    }
}

/// The pages of a whole listing, each of at most `limit` items; `read` reads one.
pub fn pages<T, E, F>(limit: usize, read: impl FnMut(PageRequest) -> F) -> impl Stream<Item = Result<Vec<T>, E>>
where
    F: Future<Output = Result<Page<T>, E>>,
{
    stream::try_unfold((Some(None), read), move |(after, mut read)| async move {
        let Some(after) = after else { return Ok(None) };
        let page = read(PageRequest { after, limit }).await?;
        Ok(Some((page.items, (page.next.map(Some), read))))
    })
}

/// The items of a whole listing, of which at most `limit` are in memory at a time; `read` reads a page.
pub fn items<T, E, F>(limit: usize, read: impl FnMut(PageRequest) -> F) -> impl Stream<Item = Result<T, E>>
where
    F: Future<Output = Result<Page<T>, E>>,
{
    pages(limit, read).map_ok(|items| stream::iter(items.into_iter().map(Ok))).try_flatten()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::executor::block_on;

    use super::*;

    /// The numbers below 7, three a page, with an empty page in the middle.
    async fn read(request: PageRequest) -> Result<Page<u32>, Infallible> {
        assert_eq!(request.limit, 3);
        let (items, next) = match request.after.as_deref() {
            None => (vec![0, 1, 2], Some("2")),
            Some("2") => (vec![], Some("2a")),
            Some("2a") => (vec![3, 4, 5], Some("5")),
            _ => (vec![6], None),
        };
        Ok(Page { items, next: next.map(str::to_owned) })
    }

    #[test]
    fn an_empty_page_does_not_end_a_listing_or_begin_it_again() {
        let all: Vec<u32> = block_on(items(3, read).try_collect()).unwrap();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        let sizes: Vec<usize> = block_on(pages(3, read).map_ok(|page| page.len()).try_collect()).unwrap();
        assert_eq!(sizes, [3, 0, 3, 1]);
    }
}
