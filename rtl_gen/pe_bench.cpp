// Everything around a compiled PE that runs a program: the C++ form of pe_bench.py, step for step.
//
// ports.h, made by compiled_pe.py, names the ports of the top module and lists the memories that are watched.
// Standard input: the program (see compiled_pe.py). Standard output: what happened, a record a line.

#include <cstdint>
#include <cstdio>
#include <deque>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "Vpe.h"
#include "ports.h"
#include "verilated.h"

using Words = std::vector<uint32_t>;

// Ports of any width as 32-bit words, lowest first.
template <class T> Words get(const T& port) {
    uint64_t value = port;
    return {uint32_t(value), uint32_t(value >> 32)};
}
template <std::size_t N> Words get(const VlWide<N>& port) {
    Words words(N);
    for (std::size_t i = 0; i < N; ++i) words[i] = port[i];
    return words;
}
template <class T> void put(T& port, const Words& words) {
    uint64_t value = 0;
    for (std::size_t i = 0; i < words.size() && i < 2; ++i) value |= uint64_t(words[i]) << 32 * i;
    port = T(value);
}
template <std::size_t N> void put(VlWide<N>& port, const Words& words) {
    for (std::size_t i = 0; i < N; ++i) port[i] = i < words.size() ? words[i] : 0;
}

static Words parse(const std::string& hex) {
    Words words;
    for (std::size_t end = hex.size(); end > 0; end = end > 8 ? end - 8 : 0) {
        std::size_t begin = end > 8 ? end - 8 : 0;
        words.push_back(uint32_t(std::stoul(hex.substr(begin, end - begin), nullptr, 16)));
    }
    return words;
}
static void print(const Words& words) {
    std::putchar(' ');
    for (std::size_t i = words.size(); i-- > 0;) std::printf("%08x", words[i]);
}
static Words read_word() {
    std::string hex;
    std::cin >> hex;
    return parse(hex);
}
static long read_number() {
    long number = 0;
    std::cin >> number;
    return number;
}

// Words of a link, offered one a cycle, each chunk not before its cycle.
struct Link {
    std::deque<std::pair<long, Words>> words;
    void read() {
        for (long count = read_number(); count > 0; --count) {
            long cycle = read_number();
            words.emplace_back(cycle, read_word());
        }
    }
    bool offers(long cycle) const { return !words.empty() && words.front().first <= cycle; }
};

// The HB bank as seen from its pins: dram_device.py.
struct Bank {
    enum { ACTIVATE = 1, READ = 2, WRITE = 3, PRECHARGE = 4 };
    using Place = std::pair<uint32_t, uint32_t>;
    long read_clocks, write_clocks, tick = -1, open_row = -1;
    std::map<Place, Words> cells;
    std::map<long, Place> reads, writes;
    Words zero, poison;

    Words step(bool edge, uint32_t command, uint32_t row, uint32_t column, const Words& data) {
        if (edge) {
            ++tick;
            reads.erase(tick);
            Place place(uint32_t(open_row), column);
            if (command == ACTIVATE) open_row = row;
            else if (command == PRECHARGE) open_row = -1;
            else if (command == READ) reads[tick + read_clocks] = place;
            else if (command == WRITE) writes[tick + write_clocks] = place;
            auto due = writes.find(tick);
            if (due != writes.end()) {
                cells[due->second] = data;
                writes.erase(due);
            }
        }
        auto burst = reads.find(tick + 1);
        if (burst == reads.end()) return poison;
        auto cell = cells.find(burst->second);
        return cell == cells.end() ? zero : cell->second;
    }
};

// Entries of a watched memory: per address the granules written and the last data of each.
struct Watched {
    std::map<uint32_t, std::pair<uint32_t, Words>> entries;
    void take(uint32_t enable, uint32_t address, const Words& data, unsigned granules, unsigned width) {
        auto& entry = entries[address];
        entry.second.resize(data.size());
        unsigned bits = width / granules;
        for (unsigned granule = 0; granule < granules; ++granule) {
            if (!(enable >> granule & 1)) continue;
            for (unsigned bit = granule * bits; bit < (granule + 1) * bits;) {
                unsigned count = bit % 32 == 0 && (granule + 1) * bits - bit >= 32 ? 32 : 1;
                uint32_t mask = (count == 32 ? ~0u : 1u) << bit % 32;
                uint32_t& word = entry.second[bit / 32];
                word = (word & ~mask) | (data[bit / 32] & mask);
                bit += count;
            }
        }
        entry.first |= enable;
    }
};

static Vpe* top;
static void rise() {
    top->clk = 1;
    top->eval();
    top->clk = 0;
}

int main() {
    top = new Vpe;
    Bank bank;
    Link stream, aggregation;
    std::deque<uint32_t> dispatch;
    std::vector<long> latencies;
    std::deque<long> answers;
    std::vector<Watched> watched(WATCHED_COUNT);

    long limit = read_number();
    bank.read_clocks = read_number();
    bank.write_clocks = read_number();
    bank.poison = read_word();
    bank.zero = Words(bank.poison.size());

    // IM and DM are filled while reset is held, so that everything counts from its release.
    top->clk = 0;
    top->rst = 1;
    for (long count = read_number(); count > 0; --count) {
        top->load__en = 1;
        top->load__descriptor = uint8_t(read_number());
        top->load__address = uint32_t(read_number());
        put(top->load__data, read_word());
        top->eval();
        rise();
    }
    top->load__en = 0;
    top->eval();
    rise();
    for (long count = read_number(); count > 0; --count) dispatch.push_back(read_word()[0]);
    for (long count = read_number(); count > 0; --count) {
        uint32_t row = uint32_t(read_number()), column = uint32_t(read_number());
        bank.cells[{row, column}] = read_word();
    }
    stream.read();
    aggregation.read();
    for (long count = read_number(); count > 0; --count) latencies.push_back(read_number());
    top->rst = 0;
    top->aggregate_out__ready = 1;
    top->host__ready = 1;
    Words pins = bank.poison;
    std::size_t asked = 0;

    long cycle = 0;
    for (;; ++cycle) {
        if (cycle == limit) {
            std::puts("limit");
            return 0;
        }
        top->dispatch__valid = !dispatch.empty();
        put(top->dispatch__payload, {dispatch.empty() ? 0 : dispatch.front()});
        top->stream_in__valid = stream.offers(cycle);
        if (stream.offers(cycle)) put(top->stream_in__payload, stream.words.front().second);
        top->aggregate_in__valid = aggregation.offers(cycle);
        if (aggregation.offers(cycle)) put(top->aggregate_in__payload, aggregation.words.front().second);
        top->host_answer = !answers.empty() && answers.front() == cycle;
        put(top->pins__read_data, pins);
        top->eval();

        Words status = get(top->status);
        bool busy = status[0] & 1, error = status[0] >> 1 & 7;
        if (error || (dispatch.empty() && !busy)) break;
        if (!dispatch.empty() && top->dispatch__ready) dispatch.pop_front();
        if (stream.offers(cycle) && top->stream_in__ready) stream.words.pop_front();
        if (aggregation.offers(cycle) && top->aggregate_in__ready) aggregation.words.pop_front();
        if (!answers.empty() && answers.front() == cycle) answers.pop_front();
        auto record = [](const char* name, std::initializer_list<Words> values) {
            std::fputs(name, stdout);
            for (const Words& value : values) print(value);
            std::putchar('\n');
        };
        if (top->aggregate_out__valid) record("out", {get(top->aggregate_out__payload)});
        if (top->event__valid) record("event", {get(top->event__kind), get(top->event__a), get(top->event__b)});
        if (top->host__valid) record("host", {get(top->host__payload)});
        if (top->trace__slip) record("slip", {});
        if (top->trace__pushed | top->trace__start | top->trace__done)
            std::printf("trace %lx %x %x %x %x\n", cycle, unsigned(top->trace__pushed),
                        unsigned(top->trace__instruction), unsigned(top->trace__start), unsigned(top->trace__done));
        if (top->trace__start >> HOST_UNIT & 1) {  // its request is on the port from the next cycle on
            answers.push_back(cycle + 1 + latencies[asked < latencies.size() ? asked : latencies.size() - 1]);
            ++asked;
        }
        if (top->pins__command == Bank::WRITE)
            std::printf("refilled %lx %lx\n", bank.open_row, long(top->pins__column));
        std::size_t memory = 0;
#define WATCH(name, granules, width)                                                                       \
    if (top->name##__enable)                                                                               \
        watched[memory].take(uint32_t(top->name##__enable), uint32_t(top->name##__address),               \
                             get(top->name##__data), granules, width);                                    \
    ++memory;
        WATCHED
#undef WATCH
        pins = bank.step(top->pins__tick, top->pins__command, top->pins__row, top->pins__column,
                         get(top->pins__write_data));
        rise();
    }

    std::printf("finish %lx", cycle);
    print(get(top->status));
    print(get(top->counters));
    std::printf("\nregisters");
    print(get(top->registers));
    std::putchar('\n');
    for (std::size_t memory = 0; memory < watched.size(); ++memory)
        for (const auto& entry : watched[memory].entries) {
            std::printf("entry %zx %x %x", memory, entry.second.first, entry.first);
            print(entry.second.second);
            std::putchar('\n');
        }
    for (const auto& cell : bank.cells) {
        std::printf("cell %x %x", cell.first.first, cell.first.second);
        print(cell.second);
        std::putchar('\n');
    }
    delete top;
}
