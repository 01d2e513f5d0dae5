//! A bounded queue between two tasks that takes no memory while nothing is in it: each viewer has two, which are empty
//! nearly always. (The channels of tokio keep room for 32 messages from the start.)

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Debug)]
struct Mailbox<T> {
    limit: usize,
    queue: Mutex<Queue<T>>,
}

#[derive(Debug)]
struct Queue<T> {
    messages: VecDeque<T>,
    senders: usize,
    is_receiver_gone: bool,
    receiver: Option<Waker>,
    /// Who waits for room, or for the receiver to go.
    waiting: Vec<Waker>,
}

/// A message that nobody will read: the receiver is gone, or in [`Sender::try_send`] there is no room.
#[derive(Debug, thiserror::Error)]
#[error("a message was not taken")]
pub struct Undelivered<T>(pub T);

/// The end that fills it.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mailbox<T>>);

/// The end that empties it.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Mailbox<T>>);

/// A mailbox for `limit` messages.
pub fn mailbox<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let queue =
        Queue { messages: VecDeque::new(), senders: 1, is_receiver_gone: false, receiver: None, waiting: Vec::new() };
    let mailbox = Arc::new(Mailbox { limit, queue: Mutex::new(queue) });
    (Sender(Arc::clone(&mailbox)), Receiver(mailbox))
}

impl<T> Queue<T> {
    fn wait(&mut self, context: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
    }
}

impl<T> Sender<T> {
    /// Appends a message, or gives it back.
    pub fn try_send(&self, message: T) -> Result<(), Undelivered<T>> {
        let mut queue = self.0.queue.lock();
        if queue.is_receiver_gone || queue.messages.len() >= self.0.limit {
            return Err(Undelivered(message));
        }
        queue.messages.push_back(message);
        let receiver = queue.receiver.take();
        drop(queue);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Ok(())
    }

    /// Appends a message once there is room; gives it back where the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), Undelivered<T>> {
        let mut message = message;
        loop {
            let has_room = poll_fn(|context| self.poll_room(1, context)).await;
            match self.try_send(message) {
                // Another sender was faster.
                Err(Undelivered(back)) if has_room => message = back,
                result => return result,
            }
        }
    }

    /// How many messages there is room for.
    pub fn room(&self) -> usize {
        self.0.limit.saturating_sub(self.0.queue.lock().messages.len())
    }

    /// Waits until there is room for `count` messages; `false` where the receiver is gone.
    pub fn poll_room(&self, count: usize, context: &Context<'_>) -> Poll<bool> {
        let mut queue = self.0.queue.lock();
        if queue.is_receiver_gone {
            return Poll::Ready(false);
        }
        if self.0.limit.saturating_sub(queue.messages.len()) >= count.min(self.0.limit) {
            return Poll::Ready(true);
        }
        queue.wait(context);
        Poll::Pending
    }

    /// Waits until the receiver is gone.
    pub async fn closed(&self) {
        poll_fn(|context| {
            let mut queue = self.0.queue.lock();
            if queue.is_receiver_gone {
                return Poll::Ready(());
            }
            queue.wait(context);
            Poll::Pending
        })
        .await;
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` where all have been read and no sender is left.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Receiver::recv`], for who waits for other things as well.
    pub fn poll_recv(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut queue = self.0.queue.lock();
        let message = queue.messages.pop_front();
        if message.is_none() && queue.senders > 0 {
            queue.receiver = Some(context.waker().clone());
            return Poll::Pending;
        }
        if queue.messages.is_empty() {
            queue.messages = VecDeque::new();
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(message)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.queue.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.senders -= 1;
        // While others are left, the receiver still waits for them.
        let receiver = if queue.senders == 0 { queue.receiver.take() } else { None };
        drop(queue);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.is_receiver_gone = true;
        let (messages, waiting) = (std::mem::take(&mut queue.messages), std::mem::take(&mut queue.waiting));
        drop(queue);
        // Outside the lock: what a message holds may itself be waited for.
        drop(messages);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    /// Whether a future has nothing yet; its waker is asked for by nobody.
    fn waits<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn messages_come_in_order_and_end_with_the_last_sender() {
        let (sender, mut receiver) = mailbox(3);
        let other = sender.clone();
        sender.try_send(1).unwrap();
        other.try_send(2).unwrap();
        sender.send(3).await.unwrap();
        assert_eq!((sender.room(), sender.try_send(4).unwrap_err().0), (0, 4));
        drop(sender);
        assert_eq!([receiver.recv().await, receiver.recv().await, receiver.recv().await], [Some(1), Some(2), Some(3)]);
        assert!(waits(pin!(receiver.recv())));
        drop(other);
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken_by_a_message_and_by_the_end() {
        let (sender, mut receiver) = mailbox(2);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(message) = receiver.recv().await {
                read.push(message);
            }
            read
        });
        for number in 0..100 {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        assert_eq!(reader.await.unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_sender_that_goes_leaves_the_others_heard() {
        let (sender, mut receiver) = mailbox(2);
        let other = sender.clone();
        let (said, waits) = tokio::sync::oneshot::channel();
        let reader = tokio::spawn(async move {
            let mut message = pin!(receiver.recv());
            assert!(poll_fn(|context| Poll::Ready(message.as_mut().poll(context).is_pending())).await);
            said.send(()).unwrap();
            message.await
        });
        waits.await.unwrap();
        drop(other);
        sender.try_send(1).unwrap();
        assert_eq!(reader.await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn room_is_waited_for_and_whoever_waits_learns_that_nobody_reads() {
        let (sender, mut receiver) = mailbox(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        {
            let mut third = pin!(sender.send(3));
            assert!(waits(third.as_mut()));
            assert_eq!(receiver.recv().await, Some(1));
            third.await.unwrap();
        }
        let mut both = pin!(poll_fn(|context| sender.poll_room(2, context)));
        assert!(waits(both.as_mut()) && waits(pin!(sender.closed())));
        drop(receiver);
        assert!(!both.await);
        sender.closed().await;
        assert_eq!(sender.send(4).await.unwrap_err().0, 4);
    }

    #[test]
    fn an_empty_mailbox_owns_no_room() {
        let (sender, mut receiver) = mailbox(64);
        for number in 0..64 {
            sender.try_send([number; 16]).unwrap();
        }
        let context = Context::from_waker(Waker::noop());
        while receiver.poll_recv(&context).is_ready() {}
        assert_eq!(sender.0.queue.lock().messages.capacity(), 0);
    }
}
