package lease

// item is what a heap holds: ordered, and told where it stands.
type item[T any] interface {
	before(T) bool
	stand(place int)
}

// heap is a binary heap whose items know their place, so that any of them can
// be moved or taken out, and whose slice can be walked without popping.
type heap[T item[T]] struct{ items []T }

func (h *heap[T]) len() int { return len(h.items) }

func (h *heap[T]) push(x T) {
	h.items = append(h.items, x)
	x.stand(len(h.items) - 1)
	h.up(len(h.items) - 1)
}

// remove takes out the item at place i and returns it.
func (h *heap[T]) remove(i int) T {
	x, last := h.items[i], len(h.items)-1
	h.swap(i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i < last {
		h.fix(i)
	}
	return x
}

// fix restores the order after the item at place i changed.
func (h *heap[T]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) (moved bool) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.items[child].before(h.items[least]) {
				least = child
			}
		}
		if least == i {
			return moved
		}
		h.swap(i, least)
		i, moved = least, true
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].stand(i)
	h.items[j].stand(j)
}
