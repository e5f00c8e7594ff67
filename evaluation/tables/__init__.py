"""Result files of many classes beside each other: runs, tables of them, and the formats that these are written in."""
