package sync_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// play is a random scenario: two branches of a repository, another repository and a directory; a daemon with four sources
// of them, and another daemon whose source has the name of one of these.
type play struct {
	*world

	*rand.Rand

	branches []*branch // the last is the rival's
	main     *server
	rival    *server
	old      map[thing]resource.Resource // as it was once
}

const (
	main  = "github.com/acme/fleet"
	owned = 4 // branches that are not the rival's
)

func newPlay(w *world, rnd *rand.Rand) *play {
	p := &play{world: w, Rand: rnd, old: map[thing]resource.Resource{}}
	p.branches = []*branch{
		newBranch(main, "main"), newBranch(main, "dev"), newBranch("github.com/acme/other", "main"), newBranch("", ""), newBranch("github.com/rival/fleet", "main"),
	}

	for i, b := range p.branches {
		for n := range 4 {
			p.put(b, item{kind: "cluster", name: fmt.Sprintf("c%d", (i*3+n)%10)})
		}

		for n := range 3 {
			p.put(b, item{kind: "class", name: fmt.Sprintf("k%d", (i*2+n)%8)})
		}

		b.push()
	}

	dir := reading("dir", p.branches[3], "")
	dir.DeleteAfter = 0
	p.main = w.server("main", reading("one", p.branches[0], "p"), reading("two", p.branches[0], "q"), reading("three", p.branches[2], ""), dir)
	p.rival = w.server("rival", reading("one", p.branches[4], ""))
	p.main.start()
	p.rival.start()

	return p
}

// put writes an item to a branch, in place of any of its name.
func (p *play) put(b *branch, i item) {
	folder := pick(p.Rand, []string{"p", "q"})

	for file, other := range b.files {
		if other.thing() == i.thing() {
			delete(b.files, file)
		}
	}

	if i.kind == "patch" {
		i.cluster = fmt.Sprintf("c%d", p.IntN(10))
	}

	b.files[folder+"/"+i.name+".yaml"] = i
}

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

func (p *play) branch() *branch { return pick(p.Rand, p.branches) }

func (p *play) item() item {
	switch p.IntN(6) {
	case 0, 1, 2:
		return item{kind: "cluster", name: fmt.Sprintf("c%d", p.IntN(10))}
	case 3, 4:
		return item{kind: "class", name: fmt.Sprintf("k%d", p.IntN(8))}
	default:
		return item{kind: "patch", name: fmt.Sprintf("x%d", p.IntN(4))}
	}
}

func (p *play) file(b *branch) (string, bool) {
	files := slices.Sorted(maps.Keys(b.files))
	if len(files) == 0 {
		return "", false
	}

	return pick(p.Rand, files), true
}

// things are what is in Omni.
func (p *play) things() []thing {
	var all []thing

	for _, typ := range []string{omnires.ClusterType, omnires.MachineClassType, omnires.ConfigPatchType} {
		list, err := p.state.List(context.Background(), thing{typ, ""}.metadata())
		if err != nil {
			p.t.Error(err)
		}

		for _, r := range list.Items {
			all = append(all, thingOf(r))
		}
	}

	return all
}

func (p *play) thing() thing {
	if all := p.things(); len(all) > 0 {
		return pick(p.Rand, all)
	}

	return thing{omnires.ClusterType, "c0"}
}

// move does one thing at random, and lets everybody come to rest.
func (p *play) move() {
	switch n := p.IntN(100); {
	case n < 45:
		p.commit()
	case n < 60:
		p.configure()
	case n < 85:
		p.touch()
	default:
		p.disturb()
	}

	p.settle()

	switch n := p.IntN(100); {
	case n < 50:
		p.pass(time.Duration(p.Int64N(int64(30 * time.Second))))
	case n < 90:
		p.pass(time.Duration(p.Int64N(int64(6 * time.Minute))))
	case n < 98:
		p.pass(time.Duration(p.Int64N(int64(20 * time.Minute))))
	default:
		p.pass(time.Duration(p.Int64N(int64(2 * time.Hour))))
	}
}

// commit changes what is in Git.
func (p *play) commit() {
	b := p.branch()

	p.mu.Lock()

	file, any := p.file(b)

	switch n := p.IntN(20); {
	case n < 8 && any:
		p.say("%s@%s: rm %s", b.repository, b.ref, file)
		delete(b.files, file)
	case n < 9 && p.IntN(3) == 0:
		p.say("%s@%s: rm some", b.repository, b.ref)

		for _, file := range slices.Sorted(maps.Keys(b.files)) {
			if p.IntN(2) == 0 {
				delete(b.files, file)
			}
		}
	case n < 14:
		i := p.item()
		p.say("%s@%s: add %s", b.repository, b.ref, i.name)
		p.put(b, i)
	case n < 15 && any: // within the branch, or to another one
		i, to := b.files[file], p.branch()
		p.say("%s@%s: mv %s to %s@%s", b.repository, b.ref, file, to.repository, to.ref)
		delete(b.files, file)
		p.put(to, i)

		if to != b {
			p.mu.Unlock()
			to.push()

			if p.IntN(2) == 0 {
				p.settle()
			}

			p.mu.Lock()
		}
	case n < 18 && any:
		i := b.files[file]
		i.version = p.IntN(4)
		i.annotations = map[string]string{}

		for _, a := range [][2]string{
			{"omni-syncd/deletion", "protected"}, {"omni-syncd/deletion", "orphan"}, {"omni-syncd/deletion", "allowed"}, {"omni-syncd/suspend", "true"}, {"omni-syncd/suspend", "false"},
			{"omni-syncd/deletion", "protectd"}, {"omni-syncd/handover", "one"}, {"omni-syncd/handover", "two"}, {"omni-syncd/source", "two"}, {"omni-syncd/fleet", ""},
			{"omni-syncd/destroying", `{"id":"1"}`}, {"omni-syncd/confirmed", "1"}, {"omni-syncd/origin", `{"repository":"github.com/acme/fleet"}`},
		} {
			if p.IntN(18) == 0 {
				i.annotations[a[0]] = a[1]
			}
		}

		p.say("%s@%s: edit %s: %v", b.repository, b.ref, file, i.annotations)
		b.files[file] = i
	case n < 19 && any:
		i := b.files[file]
		i.broken, i.empty = p.IntN(3) == 0, p.IntN(3) == 0
		p.say("%s@%s: edit %s: broken %v, empty %v", b.repository, b.ref, file, i.broken, i.empty)
		b.files[file] = i
	default:
		p.say("%s@%s: mend", b.repository, b.ref)

		for file, i := range b.files {
			i.broken, i.empty = false, false
			b.files[file] = i
		}
	}

	p.mu.Unlock()
	b.push()
}

// configure changes what the operator says of a source.
func (p *play) configure() {
	s := p.main
	if p.IntN(6) == 0 {
		s = p.rival
	}

	src := pick(p.Rand, s.sources)

	p.mu.Lock()

	switch p.IntN(14) {
	case 0, 1:
		src.Prune = p.IntN(4) > 0
	case 2:
		src.Scope.Root = pick(p.Rand, []string{"", "p", "q"})
	case 3:
		src.Scope.Include = pick(p.Rand, [][]string{nil, nil, {"**/c*"}, {"**/*[0-4].yaml"}})
	case 4:
		src.Scope.Exclude = pick(p.Rand, [][]string{nil, nil, {"**/*3.yaml"}})
	case 5:
		if s == p.main && src.Name != "dir" {
			src.from = p.branches[p.IntN(3)]
		}
	case 6:
		if src.Name == "dir" {
			src.Origin = pick(p.Rand, []string{"", "github.com/acme/dir", "github.com/acme/dir"})
		}
	case 7:
		src.DeleteAfter = pick(p.Rand, []time.Duration{0, 10 * time.Second, 5 * time.Minute, 5 * time.Minute, time.Hour})
	case 8:
		src.MaxDelete, src.MaxDeleteResources = p.IntN(3), p.IntN(6)
	case 9:
		src.Policy.Protected = p.IntN(3) == 0
	case 10:
		src.Policy.Suspended = p.IntN(3) == 0
	case 11:
		src.Allow.TakeFrom = pick(p.Rand, [][]string{nil, {"one"}, {"two", "three"}, {"one", "two", "three", "dir"}})
	case 12:
		src.Allow.Clusters = pick(p.Rand, [][]string{nil, nil, {"c*"}, {"c1*"}})
	default: // a source goes, or comes back
		if len(s.sources) > 2 && p.IntN(3) == 0 {
			s.sources = slices.DeleteFunc(slices.Clone(s.sources), func(other *reads) bool { return other == src })
		} else if s == p.main {
			for i, name := range []string{"one", "two", "three", "dir"} {
				if s.source(name) == nil {
					s.sources = append(slices.Clone(s.sources), reading(name, p.branches[i], ""))
				}
			}
		}
	}

	for _, src := range s.sources {
		p.say("%s: source %s %+v prune %v after %v max %d %d protected %v suspended %v %+v", s.name, src.Name, src.spot(), src.Prune, src.DeleteAfter, src.MaxDelete, src.MaxDeleteResources,
			src.Policy.Protected, src.Policy.Suspended, src.Allow)
	}

	p.mu.Unlock()
	s.reconfigure()
}

// disturb makes something fail, stop or start.
func (p *play) disturb() {
	switch n := p.IntN(20); {
	case n < 6:
		b := p.branch()

		p.mu.Lock()
		b.down = !b.down && p.IntN(2) == 0
		p.say("%s@%s: down %v", b.repository, b.ref, b.down)
		p.mu.Unlock()
		b.push()
	case n < 8:
		b := p.branch()

		p.mu.Lock()
		b.moving = !b.moving && p.IntN(2) == 0
		p.say("%s@%s: moving %v", b.repository, b.ref, b.moving)
		p.mu.Unlock()
		b.push()
	case n < 10:
		p.mu.Lock()
		p.main.paused = p.IntN(4) == 0
		p.say("restart, paused %v", p.main.paused)
		p.mu.Unlock()
		p.main.start()
	case n < 12:
		p.mu.Lock()
		leads := !p.main.lead.leads || p.IntN(2) == 0
		p.say("leads %v", leads)
		p.mu.Unlock()
		p.main.interrupt()
		p.main.lead.set(leads)
	case n < 15:
		p.suspend()
	case n < 18:
		p.mu.Lock()
		verb := pick(p.Rand, []string{"create", "update", "teardown", "teardown"})
		p.refuses[verb] = !p.refuses[verb] && p.IntN(2) == 0
		p.say("%s fails: %v", verb, p.refuses[verb])
		p.mu.Unlock()
	default:
		p.say("the rival restarts")
		p.rival.start()
	}
}

// suspend suspends or resumes something by request. Suspend waits for writes, so nothing may wait for the model.
func (p *play) suspend() {
	s := sync.Suspension{Source: pick(p.Rand, p.main.sources).Name, By: "somebody"}
	if p.IntN(3) > 0 {
		s.Target = new(pick(p.Rand, []string{"", "c0", "c1", "c2", "c3", "c4", "c5"}))
	}

	if p.IntN(2) == 0 {
		p.say("suspend %v: %v", s, p.main.engine.Suspend(s))

		return
	}

	for _, one := range slices.Clone(p.main.kept) {
		p.say("resume %v: %v", one, p.main.engine.Resume(one.Source, one.Target))
	}
}
