; A kernel without data: it counts expert 7 of layer 2 as often as r1 says and asks the host for operation 1 each time.
;   elmoe3d compile examples/events.s --registers 3
;   elmoe3d run build/programs/events.prog --level all
.register times r1
.register round r2
.semaphore answered 0

.kernel main
    loop times, done
        count 2, 7
        host 1, round, 0 !answered      ; a request: operation 1, argument b = the round
        host 2, round, 0 ?answered      ; only after the first one was answered
        add round, round, 1
    next
done:
    wait
    mark 99
    return
