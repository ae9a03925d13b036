"""Small texts of every language, written for the tests: nested definitions, comments, letters of many scripts."""

SOURCES = {
    "python": '''#!/usr/bin/env python3
"""Prices of a café, in many letters: ñ, 日本, 🙂."""
import math


# How a price is rounded.
@staticmethod
def round_up(größe: float) -> int:
    """Up, never down."""
    return math.ceil(größe)


class Café(object):
    prices = {
        "crème": 1,
        "日本茶": 2,
        "🙂": 3,
    }

    def total(self, names):
        out = 0
        for name in names:
            if name in self.prices:
                out += self.prices[name]
            else:
                raise KeyError(name)
        return out
''',
    "java": """package shop;

import java.util.List;

/** A basket, with an ümlaut. */
public class Basket<T> {
    private final List<T> items;

    // Counts what is in it.
    @Override
    public int count() throws IllegalStateException {
        int out = 0;
        for (T item : items) {
            if (item != null) {
                out += 1;
            }
        }
        return out;
    }

    interface Visitor { void visit(String 名前); }
}
""",
    "javascript": """'use strict';
const fs = require('fs');

/* Reads a file. */
function read(path, done) {
  fs.readFile(path, (error, data) => {
    if (error) {
      console.log('nö', error);
      return done(error);
    }
    done(null, data.toString());
  });
}

class Reader extends Object {
  async readAll(paths) {
    return Promise.all(paths.map((path) => {
      return new Promise((ok) => read(path, ok));
    }));
  }
}

module.exports = { read, Reader, smile: '🙂' };
""",
    "typescript": """import type { Price } from './price';

/** What is sold. */
export interface Item {
  name: string;
  price?: number;
}

export abstract class Shop {
  private readonly items: Item[] = [];

  /** Adds, and says how many there are. */
  add(item: Item): number {
    if (item.price === undefined) {
      throw new Error(`keine Größe: ${item.name}`);
    }
    return this.items.push(item);
  }
}

export function cheapest(items: Item[]): Item | undefined {
  return items.sort((a, b) => (a.price ?? 0) - (b.price ?? 0))[0];
}
""",
    "tsx": """import React from 'react';

type Props = { name: string; count: number };

export const Badge: React.FC<Props> = ({ name, count }) => {
  const shown: string = count > 9 ? '9+' : String(count);
  return (
    <div className="badge">
      <span title="naïve">{name}</span>
      <b>{shown}</b>
    </div>
  );
};
""",
    "go": """package shop

import (
\t"errors"
\t"fmt"
)

// Item is what is sold; größer.
type Item struct {
\tName  string
\tPrice int
}

// Total adds up all prices.
func (s *Shop) Total(items []Item) (int, error) {
\ttotal := 0
\tfor _, item := range items {
\t\tif item.Price < 0 {
\t\t\treturn 0, errors.New("négatif")
\t\t}
\t\ttotal += item.Price
\t}
\tfmt.Println("日本", total)
\treturn total, nil
}

func main() {
\tfmt.Println("🙂")
}
""",
    "php": """<?php
namespace Shop;

/** What is sold: crème brûlée. */
class Item
{
    private $price = 0;

    // The price with tax.
    public function withTax($rate)
    {
        if ($rate < 0) {
            throw new \\Exception("négatif");
        }
        return $this->price * (1 + $rate);
    }
}

function cheapest(array $items) {
    usort($items, function ($a, $b) {
        return $a->price - $b->price;
    });
    return $items[0];
}
""",
    "ruby": """require 'set'

# A shop, größer.
module Shop
  class Item < Base
    attr_reader :price

    # With tax.
    def with_tax(rate)
      raise 'négatif' unless rate >= 0
      price * (1 + rate)
    end

    def self.cheapest(items)
      items.each do |item|
        puts item.price
      end
      items.min_by { |item| item.price }
    end
  end
end
""",
    "rust": """use std::collections::HashMap;

/// What is sold, größer.
#[derive(Debug, Clone)]
pub struct Item {
    name: String,
    price: u32,
}

impl Item {
    /// With tax.
    #[inline]
    pub fn with_tax(&self, rate: u32) -> u32 {
        let mut out = self.price;
        match rate {
            0 => {}
            n => {
                out += n;
            }
        }
        out
    }
}

fn main() {
    let known: HashMap<String, Item> = HashMap::new();
    println!("日本 🙂 {}", known.len());
}
""",
    "c": """#ifndef SHOP_H
#define SHOP_H
#include <stdio.h>

/* What is sold: größer. */
typedef struct item {
    const char *name;
    int price;
} item_t;

/* Adds up. */
static int
total(const item_t *items, int n)
{
    int out = 0;
    for (int i = 0; i < n; i++) {
        if (items[i].price < 0) {
            printf("négatif %s\\n", items[i].name);
            continue;
        }
        out += items[i].price;
    }
    return out;
}
#endif
""",
    "cpp": """#include <string>
#include <vector>

namespace shop {

/// What is sold: größer.
template <typename T>
class Item : public Base {
public:
    virtual ~Item() = default;

    // With tax.
    T with_tax(T rate) const {
        if (rate < 0) {
            throw std::runtime_error("négatif");
        }
        return static_cast<T>(price_ * (1 + rate));
    }

private:
    T price_{};
};

int total(const std::vector<int>& prices) {
    int out = 0;
    for (auto price : prices) { out += price; }
    return out;
}

}  // namespace shop
""",
    "c_sharp": """using System;
using System.Collections.Generic;

namespace Shop
{
    /// <summary>What is sold: größer.</summary>
    public class Item
    {
        public int Price { get; set; }

        // With tax.
        public int WithTax(int rate)
        {
            if (rate < 0)
            {
                throw new ArgumentException("négatif");
            }
            var total = Price * (1 + rate);
            Console.WriteLine($"日本 {total}");
            return total;
        }
    }
}
""",
}
