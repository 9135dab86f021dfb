// Puts of one size from many clients to an etcd cluster, as fast as they are acknowledged.
//
//	etcd_load -endpoints http://127.0.0.1:2379,... -clients 64 -bytes 256 -seconds 10
//
// Prints one JSON object: puts, seconds, p50_ms, p99_ms. Each client has a connection of its own and one
// put under way, to the first endpoint (start the cluster so that it leads, or let it forward).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

func main() {
	endpoints := flag.String("endpoints", "", "comma-separated URLs")
	clients := flag.Int("clients", 64, "clients")
	size := flag.Int("bytes", 256, "bytes in a value")
	seconds := flag.Float64("seconds", 10, "length of the run")
	flag.Parse()
	value := strings.Repeat("x", *size)
	var lock sync.Mutex
	var took []float64
	var wait sync.WaitGroup
	begin := time.Now()
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	for n := 0; n < *clients; n++ {
		client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ",")[:1], DialTimeout: 5 * time.Second})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			var mine []float64
			for i := 0; time.Now().Before(end); i++ {
				started := time.Now()
				_, err := client.Put(context.Background(), fmt.Sprintf("k%d-%d", n, i%1000), value)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mine = append(mine, float64(time.Since(started).Microseconds())/1000)
			}
			lock.Lock()
			took = append(took, mine...)
			lock.Unlock()
		}(n)
	}
	wait.Wait()
	elapsed := time.Since(begin).Seconds()
	sort.Float64s(took)
	json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"puts": float64(len(took)), "seconds": elapsed,
		"p50_ms": took[len(took)/2], "p99_ms": took[len(took)*99/100],
	})
}
