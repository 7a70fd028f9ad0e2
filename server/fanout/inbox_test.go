package fanout

import "testing"

// Streams that come together wake their shard once, when all are there; one that is awake is not rung
// for; and one that nothing was left for sleeps on.
func TestManyJoinersRingOnce(t *testing.T) {
	h := newHouse(t, houseOptions{})
	shards := &Shards{shards: []*shard{h.sh}, abreast: 1}
	enlist := func(n int) {
		for range n {
			if err := shards.Enlist(int(h.ground.open().fd), &Subscription{Topics: []string{"a"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rings := func(about string, want int) {
		t.Helper()
		if h.ground.rings != want {
			t.Errorf("%s: rung %d times, want %d", about, h.ground.rings, want)
		}
	}
	h.settle(t)
	if !h.sh.follower.Sleep(h.sh.read) {
		t.Fatal("it does not sleep")
	}
	shards.HandOver()
	rings("nothing came", 0)
	enlist(3)
	rings("three on their way", 0)
	shards.HandOver()
	rings("three came", 1)
	h.sh.follower.Wake()
	enlist(2)
	shards.HandOver()
	rings("awake", 1)
	h.settle(t)
	if n := h.sh.stats.joins.Load(); n != 5 {
		t.Errorf("%d joined, want 5", n)
	}
}
