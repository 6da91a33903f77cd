module morestack-bench-go

go 1.19
