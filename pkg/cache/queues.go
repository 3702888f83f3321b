package cache

import "container/list"

const (
	smallShare = 4  // the small queue is a quarter of the limit: what is read ahead must stay until it is used
	itemShare  = 10 // an item is at most a tenth of it
	maxUses    = 3  // more are not counted

	// overhead is what an item costs besides its value: key, item, list element,
	// map entry, and as much again for a ghost. In bytes, rounded up.
	overhead = 512
)

// queues are the three of S3-FIFO. Values live in small and main; ghosts are
// keys that left small a short while ago, and go to main if they come back.
type queues[V any] struct {
	limit  int64
	byKey  map[Key]*list.Element // of *item[V] in small or main
	small  queue
	main   queue
	ghosts map[Key]*list.Element // of Key in ghostQueue
	order  *list.List            // of the ghosts, newest in front
}

// queue has its newest item in front.
type queue struct {
	*list.List
	bytes int64
}

type item[V any] struct {
	key   Key
	value V
	cost  int64
	uses  int // since it entered its queue, at most maxUses
}

func newQueues[V any](limit int64) queues[V] {
	return queues[V]{
		limit:  limit,
		byKey:  make(map[Key]*list.Element),
		small:  queue{List: list.New()},
		main:   queue{List: list.New()},
		ghosts: make(map[Key]*list.Element),
		order:  list.New(),
	}
}

func (q *queues[V]) bytes() int64 { return q.small.bytes + q.main.bytes }

// get returns a value and counts the use.
func (q *queues[V]) get(key Key) (value V, ok bool) {
	e := q.byKey[key]
	if e == nil {
		return value, false
	}
	it := e.Value.(*item[V])
	it.uses = min(it.uses+1, maxUses)
	return it.value, true
}

// add keeps a value and returns how many had to leave for it.
func (q *queues[V]) add(key Key, value V, cost int64) (evicted uint64) {
	cost += overhead
	if q.byKey[key] != nil || cost > q.limit/itemShare {
		return 0
	}
	it := &item[V]{key: key, value: value, cost: cost}
	if ghost := q.ghosts[key]; ghost != nil {
		q.dropGhost(ghost)
		q.push(&q.main, it)
	} else {
		q.push(&q.small, it)
	}
	for q.bytes() > q.limit {
		if q.evict() {
			evicted++
		}
	}
	return evicted
}

func (q *queues[V]) push(to *queue, it *item[V]) {
	q.byKey[it.key] = to.PushFront(it)
	to.bytes += it.cost
}

// pop takes the oldest item out of a queue.
func (q *queues[V]) pop(from *queue) *item[V] {
	it := from.Remove(from.Back()).(*item[V])
	from.bytes -= it.cost
	delete(q.byKey, it.key)
	return it
}

// evict looks at one item and reports whether it left. Items that were used stay
// for another round, a use shorter, so it leaves in the end.
func (q *queues[V]) evict() bool {
	if q.small.bytes > q.limit/smallShare || q.main.Len() == 0 {
		it := q.pop(&q.small)
		if it.uses > 1 {
			it.uses = 0
			q.push(&q.main, it)
			return false
		}
		q.haunt(it.key)
		return true
	}
	it := q.pop(&q.main)
	if it.uses > 0 {
		it.uses--
		q.push(&q.main, it)
		return false
	}
	return true
}

// haunt remembers a key that left, as many as there are values.
func (q *queues[V]) haunt(key Key) {
	q.ghosts[key] = q.order.PushFront(key)
	for q.order.Len() > len(q.byKey)+1 {
		q.dropGhost(q.order.Back())
	}
}

func (q *queues[V]) dropGhost(e *list.Element) {
	delete(q.ghosts, q.order.Remove(e).(Key))
}
