package ring

// Budgets: sizes, allocations, what is inlined, what shares a cache line.

import (
	"os/exec"
	"strings"
	"testing"
	"unsafe"
)

// An entry is passed around by the million; a reader lies on a stack.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"Entry", unsafe.Sizeof(Entry{}), 8},
		{"Reader", unsafe.Sizeof(Reader{}), 64},
		{"mark", unsafe.Sizeof(mark{}), 16},
	} {
		if c.got > c.want {
			t.Errorf("%s: %d bytes, budget %d", c.name, c.got, c.want)
		}
	}
}

// Marks and directory are small beside the bytes they are for.
func TestOverheadOfASegment(t *testing.T) {
	for _, size := range []int{MinSize, 1 << 20, 256 << 20} {
		r := newRing(t, size, 1000)
		add(r, 1, "")
		s := r.at(0)
		over := unsafe.Sizeof(*s) + uintptr(len(s.marks))*unsafe.Sizeof(s.marks[0]) + unsafe.Sizeof(r.segments[0])
		if over > uintptr(len(s.data))/20 || size > MinSize && over > uintptr(len(s.data))/200 {
			t.Errorf("ring of %d: %d bytes beside each segment of %d", size, over, len(s.data))
		}
	}
}

// What the writer stores for each entry, what readers load for each entry, and what the writer
// alone uses share no cache line.
func TestCacheLinesOfTheirOwn(t *testing.T) {
	var r Ring
	const line = 64
	for _, c := range []struct {
		name       string
		before, at uintptr // end of the one, begin of the other
	}{
		{"what never changes and head", unsafe.Offsetof(r.segments) + unsafe.Sizeof(r.segments), unsafe.Offsetof(r.head)},
		{"newest and tail", unsafe.Offsetof(r.newest) + unsafe.Sizeof(r.newest), unsafe.Offsetof(r.tail)},
		{"tail and the writer's", unsafe.Offsetof(r.allocated) + unsafe.Sizeof(r.allocated), unsafe.Offsetof(r.w)},
		{"the writer's and what follows", unsafe.Offsetof(r.w) + unsafe.Sizeof(r.w), unsafe.Sizeof(r)},
	} {
		if c.at-c.before < line {
			t.Errorf("%s are %d bytes apart, want %d", c.name, c.at-c.before, line)
		}
	}
}

// Reading allocates nothing, appending no more than its segments.
func TestAllocations(t *testing.T) {
	f := newFiller(t, 1<<20, 200, 5)
	f.fill()
	oldest, p, _ := f.ring.Oldest()
	var sum uint64
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"walking", func() {
			rd := f.ring.Reader(p, None)
			for e, _, ok := rd.Next(); ok; e, _, ok = rd.Next() {
				sum += e.ID() + uint64(len(e.Frame()))
			}
		}},
		{"At", func() { e, _ := f.ring.At(p); sum += e.Number() }},
		{"After", func() { sum += uint64(f.ring.After(oldest.ID() + 500)) }},
		{"Stats", func() { sum += uint64(f.ring.Stats().Held) }},
	} {
		if n := testing.AllocsPerRun(20, c.do); n != 0 {
			t.Errorf("%s allocates %v times", c.name, n)
		}
	}

	// A segment's allocations (itself, its bytes, its marks), spread over its entries.
	each := 1 << f.ring.shift / entrySize(200)
	if n := testing.AllocsPerRun(10, func() {
		for range each {
			f.append(1)
		}
	}); n > 3*2 {
		t.Errorf("appending %d entries allocates %v times", each, n)
	}
	if sum == 0 {
		t.Error("nothing read")
	}
}

// The accessors and the steps of the hot path are inlined.
func TestInlined(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the compiler")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	out, err := exec.Command(goTool, "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build -gcflags=-m: %v\n%s", err, out)
	}
	for _, name := range []string{
		"Entry.Valid", "Entry.ID", "Entry.PrevID", "Entry.Time", "Entry.Number", "Entry.Topic", "Entry.Prev",
		"Entry.Skip", "Entry.Kind", "Entry.TypeEnd", "Entry.Frame", "Entry.Size", "entryIn",
		"(*Ring).Head", "(*Ring).Tail", "(*Ring).NewestID", "(*Ring).Reader", "(*Ring).Room", "(*Ring).at",
		"(*Reader).Position", "(*Reader).Lapped",
	} {
		if !strings.Contains(string(out), "can inline "+name+"\n") {
			t.Errorf("%s is not inlined", name)
		}
	}
}
